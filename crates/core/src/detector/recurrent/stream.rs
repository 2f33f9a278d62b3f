//! The streaming forms: one vector in, one step of each lane, now and then residuals out.
//!
//! Words of memory, in this order:
//!
//! | what | words |
//! |---|---|
//! | clock | 1 |
//! | the vector that the last reconstruction belongs to | vector |
//! | decoded or forecast vector | vector |
//! | scratch of the network | |
//! | staggered: the last window's vectors, a ring | steps × vector |
//! | for each lane: sums of squares, encoder, and if staggered code and decoder | |

use super::layers::{Layout, RecurrentForm};
use crate::detector::format::recurrent::RecurrentLayerEntry;
use crate::detector::{Outcome, Work};

/// What the streaming forms need of a network, float or int8; states are words that it understands.
pub(in crate::detector) trait Network {
    fn layout(&self) -> &Layout<'_>;
    /// Words of the state of a stack of layers.
    fn state_words(&self, entries: &[RecurrentLayerEntry]) -> usize;
    /// Words of what the decoder needs of a code.
    fn code_words(&self) -> usize;
    /// Words that a step writes and nobody reads later.
    fn scratch_words(&self) -> usize;
    /// Sets the state of a stack to that before the first step.
    fn restart(&self, entries: &[RecurrentLayerEntry], state: &mut [u32]);
    /// Takes one step of the encoder.
    fn encode(&self, vector: &[f32], state: &mut [u32], scratch: &mut [u32]);
    /// Writes what the decoder needs of the code, which is in the encoder's state.
    fn code(&self, state: &[u32], code: &mut [u32]);
    /// Takes one step of the decoder, whose input is the code at each step, and writes its vector.
    fn decode(&self, code: &[u32], state: &mut [u32], output: &mut [f32], scratch: &mut [u32]);
    /// Writes the vector that the encoder's state speaks of.
    fn forecast(&self, state: &[u32], output: &mut [f32], scratch: &mut [u32]);
}

/// How many words each part takes.
struct Plan {
    vector: usize,
    scratch: usize,
    ring: usize,
    encoder: usize,
    code: usize,
    decoder: usize,
}

impl Plan {
    fn new(network: &impl Network) -> Self {
        let layout = network.layout();
        let (ring, code) = match layout.form {
            RecurrentForm::Staggered => (layout.steps * layout.vector_len, network.code_words()),
            RecurrentForm::Stateful => (0, 0),
        };
        Self {
            vector: layout.vector_len,
            scratch: network.scratch_words(),
            ring,
            encoder: network.state_words(layout.encoder),
            code,
            decoder: network.state_words(layout.decoder),
        }
    }

    fn lane(&self) -> usize {
        self.vector + self.encoder + self.code + self.decoder
    }

    /// Cuts memory into its parts.
    fn cut<'m>(&self, memory: &'m mut [u32]) -> Parts<'m> {
        let (clock, rest) = memory.split_at_mut(1);
        let (source, rest) = rest.split_at_mut(self.vector);
        let (decoded, rest) = rest.split_at_mut(self.vector);
        let (scratch, rest) = rest.split_at_mut(self.scratch);
        let (ring, lanes) = rest.split_at_mut(self.ring);
        Parts {
            clock: &mut clock[0],
            source: bytemuck::cast_slice_mut(source),
            decoded: bytemuck::cast_slice_mut(decoded),
            scratch,
            ring: bytemuck::cast_slice_mut(ring),
            lanes,
        }
    }

    /// Cuts a lane into its parts.
    fn cut_lane<'m>(&self, lane: &'m mut [u32]) -> Lane<'m> {
        let (squares, rest) = lane.split_at_mut(self.vector);
        let (encoder, rest) = rest.split_at_mut(self.encoder);
        let (code, decoder) = rest.split_at_mut(self.code);
        Lane { squares: bytemuck::cast_slice_mut(squares), encoder, code, decoder }
    }
}

struct Parts<'m> {
    clock: &'m mut u32,
    source: &'m mut [f32],
    decoded: &'m mut [f32],
    scratch: &'m mut [u32],
    ring: &'m mut [f32],
    lanes: &'m mut [u32],
}

struct Lane<'m> {
    squares: &'m mut [f32],
    encoder: &'m mut [u32],
    code: &'m mut [u32],
    decoder: &'m mut [u32],
}

impl Lane<'_> {
    /// Adds the squares of what `output` misses of `vector`.
    fn take(&mut self, vector: &[f32], output: &[f32]) {
        for (square, (number, output)) in self.squares.iter_mut().zip(vector.iter().zip(output)) {
            let missed = number - output;
            *square += missed * missed;
        }
    }

    /// Writes the root mean squares over `count` vectors.
    fn finish(&self, count: usize, residuals: &mut [f32]) {
        for (residual, square) in residuals.iter_mut().zip(&*self.squares) {
            *residual = libm::sqrtf(square / count as f32);
        }
    }
}

pub(in crate::detector) fn memory_words(network: &impl Network) -> usize {
    let plan = Plan::new(network);
    1 + 2 * plan.vector + plan.scratch + plan.ring + network.layout().lanes() * plan.lane()
}

/// Counts what a vector costs on average, of what a step of encoder, decoder and output costs.
pub(in crate::detector) fn work(layout: &Layout<'_>, mut step: Work) -> Work {
    let count = layout.vector_len as u64;
    // The residual, its square and their sum.
    step.float_operations += 3 * count;
    let mut work = step * layout.lanes() as u64;
    work.integer_steps += 2 * count;
    // The roots come once a verdict, each after a division.
    work.float_functions += count.div_ceil(layout.hop as u64);
    work.float_divisions += count.div_ceil(layout.hop as u64);
    work
}

/// Brings memory that is all zero into the state before the first vector.
pub(in crate::detector) fn start(network: &impl Network, memory: &mut [u32]) {
    let plan = Plan::new(network);
    let layout = network.layout();
    for lane in plan.cut(memory).lanes.chunks_exact_mut(plan.lane()) {
        let lane = plan.cut_lane(lane);
        network.restart(layout.encoder, lane.encoder);
        network.restart(layout.decoder, lane.decoder);
    }
}

/// Returns the vector that the last reconstruction belongs to.
pub(in crate::detector) fn source<'m>(network: &impl Network, memory: &'m [f32]) -> &'m [f32] {
    memory.get(1..=network.layout().vector_len).unwrap_or(&[])
}

pub(in crate::detector) fn run(
    network: &impl Network,
    vector: &mut [f32],
    reconstruction: &mut [f32],
    memory: &mut [u32],
) -> Outcome {
    let plan = Plan::new(network);
    let parts = plan.cut(memory);
    match network.layout().form {
        RecurrentForm::Staggered => staggered(network, &plan, parts, vector, reconstruction),
        RecurrentForm::Stateful => stateful(network, &plan, parts, vector, reconstruction),
    }
}

/// The clock counts vectors to three windows and then starts again at two: the phases stay the
/// same, and every lane has a window behind it.
///
/// A lane's window begins `lane * hop` vectors after the first one's. Each vector is the next step
/// of the window under way; the vector that came a window earlier is what the decoder's step of
/// the window before is compared with, for all lanes alike.
fn staggered(
    network: &impl Network,
    plan: &Plan,
    parts: Parts<'_>,
    vector: &mut [f32],
    reconstruction: &mut [f32],
) -> Outcome {
    let layout = network.layout();
    let (steps, hop) = (layout.steps, layout.hop);
    let Parts { clock, source, decoded, scratch, ring, lanes } = parts;
    let now = *clock as usize;
    let slot = &mut ring[now % steps * plan.vector..][..plan.vector];
    source.copy_from_slice(slot);
    slot.copy_from_slice(vector);
    let mut outcome = Outcome::Pending;
    for (index, lane) in lanes.chunks_exact_mut(plan.lane()).enumerate() {
        let Some(since_start) = now.checked_sub(index * hop) else { break };
        let mut lane = plan.cut_lane(lane);
        let step = since_start % steps;
        if step == 0 {
            network.code(lane.encoder, lane.code);
            network.restart(layout.encoder, lane.encoder);
            network.restart(layout.decoder, lane.decoder);
            lane.squares.fill(0.0);
        }
        // The slot holds what `vector` does, which residuals may replace before the last lane.
        network.encode(slot, lane.encoder, scratch);
        if since_start < steps {
            continue;
        }
        network.decode(lane.code, lane.decoder, decoded, scratch);
        lane.take(source, decoded);
        if step + 1 == steps {
            reconstruction.copy_from_slice(decoded);
            lane.finish(steps, vector);
            outcome = Outcome::Residuals;
        }
    }
    *clock = if now + 1 == 3 * steps { 2 * steps } else { now + 1 } as u32;
    outcome
}

/// The clock counts the vectors of the warm-up, then a hop, and then that hop again. `decoded` holds
/// what was forecast of the vector that comes in.
fn stateful(
    network: &impl Network,
    plan: &Plan,
    parts: Parts<'_>,
    vector: &mut [f32],
    reconstruction: &mut [f32],
) -> Outcome {
    let Layout { steps, hop, .. } = *network.layout();
    let Parts { clock, source, decoded, scratch, lanes, .. } = parts;
    let mut lane = plan.cut_lane(lanes);
    let now = *clock as usize;
    source.copy_from_slice(vector);
    let mut outcome = Outcome::Pending;
    let mut after = now + 1;
    if now >= steps {
        lane.take(source, decoded);
        if after == steps + hop {
            reconstruction.copy_from_slice(decoded);
            lane.finish(hop, vector);
            lane.squares.fill(0.0);
            outcome = Outcome::Residuals;
            after = steps;
        }
    }
    *clock = after as u32;
    network.encode(source, lane.encoder, scratch);
    network.forecast(lane.encoder, decoded, scratch);
    outcome
}

/// Runs an autoencoder over a window at once.
pub(in crate::detector) fn reconstruct(
    network: &impl Network,
    window: &[f32],
    output: &mut [f32],
    memory: &mut [u32],
) {
    let layout = network.layout();
    if layout.form != RecurrentForm::Staggered {
        return;
    }
    let plan = Plan::new(network);
    let Parts { scratch, lanes, .. } = plan.cut(memory);
    let lane = plan.cut_lane(&mut lanes[..plan.lane()]);
    network.restart(layout.encoder, lane.encoder);
    network.restart(layout.decoder, lane.decoder);
    for vector in window.chunks_exact(plan.vector).take(layout.steps) {
        network.encode(vector, lane.encoder, scratch);
    }
    network.code(lane.encoder, lane.code);
    for vector in output.chunks_exact_mut(plan.vector).take(layout.steps) {
        network.decode(lane.code, lane.decoder, vector, scratch);
    }
}
