//! Threads that stay for a whole fit and share out short tasks.
//!
//! A batch takes about a millisecond, too short to start threads for: the helpers wait in a loop,
//! yield after a while and sleep after a longer one. Which thread takes which task is left to
//! chance; results must not depend on it.

use core::sync::atomic::{AtomicBool, AtomicIsize, AtomicUsize, Ordering};
use core::time::Duration;
use std::thread;

/// Turns of waiting before a thread yields, some tens of microseconds.
const SPINS: u32 = 2_000;
/// Turns of waiting before a helper sleeps.
const YIELDS: u32 = 4_000;
/// How long a helper sleeps at a time.
const NAP: Duration = Duration::from_micros(50);

/// Runs the tasks of a round, on its own thread and those of its helpers.
pub(super) struct Team<'a> {
    board: &'a Board,
    work: &'a (dyn Fn(usize) + Sync),
}

/// What the threads of a team know of a round.
struct Board {
    /// Counts the rounds.
    round: AtomicUsize,
    /// The tasks that nobody has taken, of which the last is the next; 0 or less when all are taken.
    left: AtomicIsize,
    done: AtomicUsize,
    stop: AtomicBool,
}

/// Calls `lead` with a team of `threads`, whose tasks are `work`.
pub(super) fn with_team<R>(
    threads: usize,
    work: &(dyn Fn(usize) + Sync),
    lead: impl FnOnce(&Team<'_>) -> R,
) -> R {
    let board = Board {
        round: AtomicUsize::new(0),
        left: AtomicIsize::new(0),
        done: AtomicUsize::new(0),
        stop: AtomicBool::new(false),
    };
    let team = Team { board: &board, work };
    thread::scope(|scope| {
        // Also when `lead` panics, or the scope would wait for ever.
        let _stop = OnDrop(|| board.stop.store(true, Ordering::Release));
        for _ in 1..threads {
            scope.spawn(|| help(&team));
        }
        lead(&team)
    })
}

impl Team<'_> {
    /// Runs the tasks 0 to `tasks`, each once; returns when all are done.
    pub(super) fn run(&self, tasks: usize) {
        let board = self.board;
        board.done.store(0, Ordering::Relaxed);
        // A helper that is late from the round before may take a task from here on; it sees all
        // that was stored before, as every thread takes tasks with `Acquire`.
        board.left.store(isize::try_from(tasks).unwrap_or(isize::MAX), Ordering::Release);
        board.round.fetch_add(1, Ordering::Release);
        self.take_tasks();
        let mut turns = 0;
        while board.done.load(Ordering::Acquire) < tasks {
            wait(&mut turns, false);
        }
    }

    fn take_tasks(&self) {
        let board = self.board;
        loop {
            let task = board.left.fetch_sub(1, Ordering::AcqRel) - 1;
            let Ok(task) = usize::try_from(task) else { return };
            // Also when the work panics: the lead then meets a poisoned lock, not a task for ever
            // under way.
            let _done = OnDrop(|| {
                board.done.fetch_add(1, Ordering::Release);
            });
            (self.work)(task);
        }
    }
}

fn help(team: &Team<'_>) {
    let mut seen = 0;
    let mut turns = 0;
    while !team.board.stop.load(Ordering::Acquire) {
        let round = team.board.round.load(Ordering::Acquire);
        if round == seen {
            wait(&mut turns, true);
            continue;
        }
        seen = round;
        turns = 0;
        team.take_tasks();
    }
}

fn wait(turns: &mut u32, may_sleep: bool) {
    *turns = turns.saturating_add(1);
    if *turns < SPINS {
        core::hint::spin_loop();
    } else if *turns < YIELDS || !may_sleep {
        thread::yield_now();
    } else {
        thread::sleep(NAP);
    }
}

struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn every_task_of_every_round_runs_once() {
        for threads in [1, 2, 5] {
            let counts: Vec<AtomicUsize> = (0..7).map(|_| AtomicUsize::new(0)).collect();
            let work = |task: usize| {
                counts[task].fetch_add(1, Ordering::Relaxed);
            };
            with_team(threads, &work, |team| {
                for round in 1..=500 {
                    team.run(7);
                    assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == round));
                }
                team.run(0);
            });
        }
    }

    #[test]
    fn a_panic_of_a_task_reaches_the_caller() {
        let state = Mutex::new(());
        let work = |_: usize| {
            let _held = state.lock().expect("nobody panicked before");
            panic!("a task fails");
        };
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            with_team(2, &work, |team| {
                team.run(1);
                drop(state.lock().expect("the task poisoned it"));
            });
        }));
        assert!(ended.is_err());
    }
}
