//! Which appliances are on, from a meter that sees their sum.
//!
//! A meter gives means over a period, so the row in which an appliance is switched is a mixture of the rows before and
//! after. Such rows are rare in a recording; [`with_mixtures`] adds ones made from the recording's own rows.

use crate::random::Random;

/// Rows of a meter with the power of each appliance.
#[derive(Clone, Debug, PartialEq)]
pub struct Mains {
    /// `[rows][features]`.
    pub vectors: Vec<f32>,
    /// Features of a row.
    pub width: usize,
    /// `[rows][appliances]`, in W.
    pub watts: Vec<f32>,
    /// Number of appliances, at most eight.
    pub appliances: usize,
}

impl Mains {
    /// Tells for each row whether an appliance draws more than `on_w`.
    #[must_use]
    pub fn is_on(&self, appliance: usize, on_w: f32) -> Vec<bool> {
        let watts = self.watts.iter().skip(appliance).step_by(self.appliances.max(1));
        watts.map(|watts| *watts > on_w).collect()
    }

    /// Returns the rows of each state, one bit an appliance.
    fn states(&self, on_w: f32) -> Vec<Vec<usize>> {
        let mut states = vec![Vec::new(); 1 << self.appliances];
        for (row, watts) in self.watts.chunks_exact(self.appliances.max(1)).enumerate() {
            let bits = watts.iter().enumerate();
            let state: usize = bits.map(|(bit, watts)| usize::from(*watts > on_w) << bit).sum();
            states[state].push(row);
        }
        states
    }
}

/// Returns the rows with `count` mixtures for each switch of one appliance between states that occur, both ways.
#[must_use]
pub fn with_mixtures(mains: &Mains, on_w: f32, count: usize, seed: u64) -> Mains {
    let states = mains.states(on_w);
    let mut random = Random::new(seed);
    let mut mixed = mains.clone();
    let pick = |rows: &[usize], random: &mut Random| rows[random.below(rows.len() as u32) as usize];
    for (state, rows) in states.iter().enumerate() {
        for appliance in 0..mains.appliances {
            let others = &states[state ^ (1 << appliance)];
            if rows.is_empty() || others.is_empty() {
                continue;
            }
            for _ in 0..count {
                let (a, b) = (pick(rows, &mut random), pick(others, &mut random));
                let share = random.uniform() as f32;
                let mix = |values: &[f32], width: usize| -> Vec<f32> {
                    let row = |row: usize| &values[row * width..(row + 1) * width];
                    row(a).iter().zip(row(b)).map(|(a, b)| a + share * (b - a)).collect()
                };
                mixed.vectors.extend(mix(&mains.vectors, mains.width));
                mixed.watts.extend(mix(&mains.watts, mains.appliances));
            }
        }
    }
    mixed
}
