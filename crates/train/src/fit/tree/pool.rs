//! Work spread over threads, with results in one order.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::rows::Rows;

/// Computes `compute(0)`, ..., `compute(count - 1)` on up to `threads` threads; the results stand in
/// that order.
pub(in crate::fit) fn each_index<T: Send>(
    count: usize,
    threads: usize,
    compute: impl Fn(usize) -> T + Sync,
) -> Vec<T> {
    let threads = threads.min(count);
    if threads <= 1 {
        return (0..count).map(compute).collect();
    }
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= count {
                return done;
            }
            done.push((index, compute(index)));
        }
    };
    let mut done: Vec<(usize, T)> = thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let mut done = work();
        for other in others {
            match other.join() {
                Ok(more) => done.extend(more),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        done
    });
    done.sort_unstable_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, result)| result).collect()
}

/// Rows of one task.
const CHUNK_ROWS: usize = 1_024;

/// Lets `compute` append to the results of each row, with `memory_words` words of memory.
pub(in crate::fit) fn each_row<T: Send>(
    rows: Rows<'_>,
    threads: usize,
    memory_words: usize,
    compute: impl Fn(&[f32], &mut [u32], &mut Vec<T>) + Sync,
) -> Vec<T> {
    let chunks = each_index(rows.len().div_ceil(CHUNK_ROWS), threads, |chunk| {
        let mut memory = vec![0; memory_words];
        let mut results = Vec::with_capacity(CHUNK_ROWS);
        let end = rows.len().min((chunk + 1) * CHUNK_ROWS);
        for index in chunk * CHUNK_ROWS..end {
            compute(rows.row(index), &mut memory, &mut results);
        }
        results
    });
    chunks.into_iter().flatten().collect()
}
