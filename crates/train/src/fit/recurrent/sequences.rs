//! What a recurrent network learns from: windows, or long streams with a warm-up.

use core::ops::Range;

use super::RecurrentArchitecture;
use super::network::Form;
use super::shard::Piece;
use crate::fit::{FitError, FitOptions};
use crate::limits::RECURRENT_STREAM_CHUNKS_MIN;

/// Rows that stand in time order without a gap, run through with carried state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sequence {
    /// Row of the first input.
    first: usize,
    /// Inputs that have a target.
    len: usize,
    /// Steps before the first that counts in the loss.
    warm_up: usize,
}

impl Sequence {
    /// Steps that count in the loss.
    #[cfg(test)]
    pub(super) fn counted(&self) -> usize {
        self.len - self.warm_up
    }

    /// Chunks of `steps` that the sequence is run through in.
    pub(super) fn chunks(&self, steps: usize) -> usize {
        self.len.div_ceil(steps)
    }

    /// The part of chunk `chunk`; with no steps when the sequence has ended.
    pub(super) fn piece(&self, chunk: usize, steps: usize) -> Piece {
        let from = chunk * steps;
        let len = self.len.saturating_sub(from).min(steps);
        let counted = self.warm_up.saturating_sub(from).min(len)..len;
        Piece { first: self.first + from, len, counted }
    }
}

/// The sequences to train on and to validate on.
#[derive(Debug)]
pub(super) struct Sequences {
    pub(super) training: Vec<Sequence>,
    pub(super) validation: Vec<Sequence>,
}

impl Sequences {
    /// Cuts the rows up.
    ///
    /// # Errors
    /// When no run is as long as is needed, or the share leaves nothing on one side.
    pub(super) fn new(
        architecture: &RecurrentArchitecture,
        rows: usize,
        run_starts: &[usize],
        options: &FitOptions,
    ) -> Result<Self, FitError> {
        let steps = architecture.steps;
        let needed = match architecture.form {
            Form::Staggered => steps,
            // The warm-up, a row to forecast from and a row to forecast.
            Form::Stateful => steps + 2,
        };
        let runs = runs(rows, run_starts);
        let longest = runs.iter().map(Range::len).max().unwrap_or(0);
        if longest < needed {
            return Err(FitError::RunTooShort { needed, longest });
        }
        let sequences = match architecture.form {
            Form::Staggered => windows(&runs, steps, options),
            Form::Stateful => streams(&runs, steps, options),
        };
        let (training, validation) = (sequences.training.len(), sequences.validation.len());
        if training == 0 || (options.validation_share > 0.0 && validation == 0) {
            return Err(FitError::SequenceSplit {
                rows,
                share: options.validation_share,
                steps,
                training,
                validation,
            });
        }
        Ok(sequences)
    }
}

fn runs(rows: usize, run_starts: &[usize]) -> Vec<Range<usize>> {
    let ends = run_starts.iter().skip(1).chain(core::iter::once(&rows));
    run_starts.iter().zip(ends).map(|(start, end)| *start..*end).collect()
}

/// Windows half a window apart; the last ones validate, and none that shares rows with them trains.
fn windows(runs: &[Range<usize>], steps: usize, options: &FitOptions) -> Sequences {
    let hop = steps.div_ceil(2);
    let mut training: Vec<Sequence> = Vec::new();
    for run in runs {
        let starts = (run.start..run.end).step_by(hop);
        let whole = starts.take_while(|start| start + steps <= run.end);
        training.extend(whole.map(|first| Sequence { first, len: steps, warm_up: 0 }));
    }
    let share = f64::from(options.validation_share);
    let validation_len = (training.len() as f64 * share).round() as usize;
    let validation = training.split_off(training.len() - validation_len.min(training.len()));
    if let Some(first) = validation.first() {
        training.retain(|window| window.first + steps <= first.first);
    }
    Sequences { training, validation }
}

/// Streams, about one for each place of the batch; the last rows validate.
fn streams(runs: &[Range<usize>], steps: usize, options: &FitOptions) -> Sequences {
    let rows = runs.last().map_or(0, |run| run.end);
    let validation_len = (rows as f64 * f64::from(options.validation_share)).round() as usize;
    let cut = rows - validation_len.min(rows);
    let stream_len =
        cut.div_ceil(options.batch).max(RECURRENT_STREAM_CHUNKS_MIN.saturating_mul(steps));
    let part = |from: usize, to: usize| {
        let mut streams = Vec::new();
        for run in runs {
            let run = run.start.max(from)..run.end.min(to);
            // Each stream warms up on the rows before those that count, so that each row counts.
            let mut counted_from = run.start + steps;
            while counted_from + 1 < run.end {
                let end = (counted_from + stream_len).min(run.end - 1);
                let first = counted_from - steps;
                streams.push(Sequence { first, len: end - first, warm_up: steps });
                counted_from = end;
            }
        }
        streams
    };
    Sequences { training: part(0, cut), validation: part(cut, rows) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fit::recurrent::network::Cell;
    use crate::network::Activation;

    fn architecture(form: Form, steps: usize) -> RecurrentArchitecture {
        RecurrentArchitecture {
            form,
            cell: Cell::Lstm,
            inputs: 2,
            encoder: vec![3],
            steps,
            output: Activation::Linear,
        }
    }

    fn firsts(sequences: &[Sequence]) -> Vec<usize> {
        sequences.iter().map(|sequence| sequence.first).collect()
    }

    #[test]
    fn windows_stay_in_their_run_and_none_shares_rows_with_validation() {
        let options = FitOptions { validation_share: 0.25, ..FitOptions::default() };
        let made = Sequences::new(&architecture(Form::Staggered, 4), 30, &[0, 11, 13], &options)
            .expect("the runs are long enough");
        // Rows 0..11, 11..13 and 13..30 hold windows from 0 to 6 and from 13 to 25.
        assert_eq!(firsts(&made.validation), [21, 23, 25]);
        assert_eq!(firsts(&made.training), [0, 2, 4, 6, 13, 15, 17]);
    }

    #[test]
    fn streams_count_each_row_behind_the_warm_up_once() {
        let options = FitOptions { validation_share: 0.0, batch: 4, ..FitOptions::default() };
        let made = Sequences::new(&architecture(Form::Stateful, 5), 203, &[0, 100], &options)
            .expect("the runs are long enough");
        assert!(made.validation.is_empty());
        // Of each run all but the warm-up's rows and the last, which has no target.
        let counted: usize = made.training.iter().map(Sequence::counted).sum();
        assert_eq!(counted, (100 - 6) + (103 - 6));
        for stream in &made.training {
            let pieces: Vec<_> =
                (0..stream.chunks(5)).map(|chunk| stream.piece(chunk, 5)).collect();
            assert_eq!(pieces.iter().map(|piece| piece.len).sum::<usize>(), stream.len);
            assert!(pieces[0].counted.is_empty());
            assert_eq!(
                pieces.iter().map(|piece| piece.counted.len()).sum::<usize>(),
                stream.counted()
            );
        }
        assert_eq!(made.training[0].piece(99, 5).len, 0);
    }

    #[test]
    fn runs_that_are_too_short_are_named() {
        let options = FitOptions::default();
        let error = Sequences::new(&architecture(Form::Staggered, 12), 30, &[0, 11, 20], &options)
            .expect_err("no run is that long");
        assert_eq!(error, FitError::RunTooShort { needed: 12, longest: 11 });
        let error = Sequences::new(&architecture(Form::Stateful, 10), 11, &[0], &options)
            .expect_err("no run is that long");
        assert_eq!(error, FitError::RunTooShort { needed: 12, longest: 11 });
        let error = Sequences::new(&architecture(Form::Staggered, 12), 12, &[0], &options)
            .expect_err("a single window cannot be split");
        assert!(matches!(error, FitError::SequenceSplit { training: 1, validation: 0, .. }));
    }
}
