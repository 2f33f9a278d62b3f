//! Where faults stand in a recording.

use super::{FaultKind, SynthError};
use crate::random::Random;

/// A fault in a recording: its kind with its parameters, and the rows that it changes.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Fault<F = FaultKind> {
    /// What happens.
    #[serde(flatten)]
    pub kind: F,
    /// First row.
    pub start_row: usize,
    /// Number of rows.
    pub rows: usize,
}

/// Which faults a recording gets.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultPlan<F = FaultKind> {
    /// None: normal data to train on.
    #[default]
    None,
    /// These.
    Listed(Vec<Fault<F>>),
    /// The typical faults in turn, each at a random place of its own part of the recording.
    Random {
        /// How many.
        count: usize,
        /// The first row where one may begin.
        first_row: usize,
    },
    /// The typical faults in turn at random places, until this share of all rows is faulty.
    Share(f64),
}

impl<F: Clone> FaultPlan<F> {
    /// Returns the faults in the order of time.
    ///
    /// `draw` gives the fault of a number and its rows; `longest` is the most rows that it gives.
    pub(super) fn place(
        &self,
        rows: usize,
        longest: usize,
        random: &mut Random,
        mut draw: impl FnMut(usize, &mut Random) -> (F, usize),
    ) -> Result<Vec<Fault<F>>, SynthError> {
        match *self {
            Self::None => Ok(Vec::new()),
            Self::Listed(ref faults) => {
                let mut faults = faults.clone();
                faults.sort_by_key(|fault| fault.start_row);
                Ok(faults)
            }
            Self::Random { count, first_row } => {
                // As long again after it, so that an alarm can clear before the next fault.
                let part = rows.saturating_sub(first_row) / count.max(1);
                let needed = longest * 3;
                if part < needed {
                    let needed = needed * count;
                    return Err(SynthError::NoRoom { count, needed, first_row, rows });
                }
                let slack = u32::try_from(part - 2 * longest).unwrap_or(u32::MAX);
                let place = |index: usize| {
                    let start_row = first_row + index * part + random.below(slack) as usize;
                    let (kind, rows) = draw(index, random);
                    Fault { kind, start_row, rows }
                };
                Ok((0..count).map(place).collect())
            }
            Self::Share(share) => {
                if !(0.0..=SHARE_MAX).contains(&share) {
                    return Err(SynthError::Share { share });
                }
                Ok(place_share(rows, (rows as f64 * share).round() as usize, random, draw))
            }
        }
    }
}

/// Largest share of faulty rows: above it, normal would be the exception.
const SHARE_MAX: f64 = 0.5;

/// Draws faults until `faulty` rows have one, and spreads the normal rows over the gaps between them.
fn place_share<F>(
    rows: usize,
    faulty: usize,
    random: &mut Random,
    mut draw: impl FnMut(usize, &mut Random) -> (F, usize),
) -> Vec<Fault<F>> {
    let mut drawn = Vec::new();
    let mut left = faulty;
    while left > 0 {
        let (kind, rows) = draw(drawn.len(), random);
        let rows = rows.clamp(1, left);
        left -= rows;
        drawn.push((kind, rows));
    }
    // Cuts of the normal rows at random: every way to divide them is as likely as every other.
    let bound = u32::try_from(rows - faulty + 1).unwrap_or(u32::MAX);
    let mut cuts: Vec<usize> = drawn.iter().map(|_| random.below(bound) as usize).collect();
    cuts.sort_unstable();
    let mut before = 0;
    let place = |((kind, rows), cut): ((F, usize), usize)| {
        let fault = Fault { kind, start_row: cut + before, rows };
        before += rows;
        fault
    };
    drawn.into_iter().zip(cuts).map(place).collect()
}

/// Refuses faults that overlap or lie outside of the recording; they stand in the order of time.
pub(super) fn check<F>(faults: &[Fault<F>], rows: usize) -> Result<(), SynthError> {
    let mut end_before = 0;
    for fault in faults {
        let Fault { start_row, rows: len, .. } = *fault;
        match start_row.checked_add(len) {
            Some(end) if end <= rows && len > 0 => {
                if start_row < end_before {
                    return Err(SynthError::Overlap { start_row, end_before });
                }
                end_before = end;
            }
            _ => return Err(SynthError::Outside { start_row, fault_rows: len, rows }),
        }
    }
    Ok(())
}

/// Walks over the rows and says which fault acts.
#[derive(Debug)]
pub(super) struct Cursor<'a, F> {
    faults: &'a [Fault<F>],
    row: usize,
}

impl<'a, F> Cursor<'a, F> {
    pub(super) fn new(faults: &'a [Fault<F>]) -> Self {
        Self { faults, row: 0 }
    }

    /// Goes on to the next row: the fault that acts on it, with the rows since it began.
    pub(super) fn next_row(&mut self) -> Option<(&'a Fault<F>, usize)> {
        let row = self.row;
        self.row += 1;
        while let [first, rest @ ..] = self.faults {
            if row < first.start_row + first.rows {
                return row.checked_sub(first.start_row).map(|at| (first, at));
            }
            self.faults = rest;
        }
        None
    }
}
