//! How much stack a call needs, by painting the stack and looking for the paint.
#![allow(unsafe_code, reason = "paints and reads the memory below the stack")]

const PAINT: u32 = 0x5ca1_ab1e;
/// Left unpainted below the stack pointer, for the painting's own frame.
const MARGIN_BYTES: usize = 64;

unsafe extern "C" {
    static __stack_bottom: u32;
}

/// Runs something and tells the bytes of stack that it needed beyond this call.
///
/// The smallest answer is the unpainted margin.
#[inline(never)]
pub(crate) fn high_water(call: impl FnOnce()) -> u32 {
    let top = stack_pointer();
    let bottom = (&raw const __stack_bottom).cast_mut();
    let words = (top - MARGIN_BYTES - bottom as usize) / size_of::<u32>();
    for word in 0..words {
        // SAFETY: these words lie between the end of the variables and the stack
        // pointer less a margin; no frame is there yet and nothing else uses them.
        unsafe { bottom.add(word).write_volatile(PAINT) };
    }
    call();
    let untouched = (0..words)
        // SAFETY: as above; the frames of the call have ended.
        .take_while(|&word| unsafe { bottom.add(word).read_volatile() } == PAINT)
        .count();
    let deepest = bottom as usize + untouched * size_of::<u32>();
    (top - deepest) as u32
}

#[inline(always)]
fn stack_pointer() -> usize {
    let pointer: usize;
    // SAFETY: reading the register has no effect.
    unsafe { core::arch::asm!("mv {}, sp", out(reg) pointer, options(nomem, nostack)) };
    pointer
}
