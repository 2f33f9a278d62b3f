//! The distance to the nearest of some stored vectors.

use core::ops::ControlFlow;

use serde::{Deserialize, Serialize};
use stonechat_core::detector::EngineKind;
use stonechat_core::detector::format::neighbour::{CODE_ABS_MAX, NeighbourHeader};
use stonechat_core::limits::NEIGHBOURS_MAX;

use super::{Fit, FitError, FittedModel, Progress, TrainingData};
use crate::compile::{Model, append, number};
use crate::rows::Rows;

/// How to fit the nearest neighbour.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NeighbourOptions {
    /// How many vectors are stored at most.
    pub vectors: usize,
}

impl Default for NeighbourOptions {
    fn default() -> Self {
        Self { vectors: 256 }
    }
}

impl Fit for NeighbourOptions {
    fn fit(
        &self,
        data: &TrainingData<'_>,
        _progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<FittedModel, FitError> {
        if !(1..=NEIGHBOURS_MAX).contains(&self.vectors) {
            let (option, value) = ("vectors", self.vectors as f64);
            return Err(FitError::Option { option, value, range: "1 to 4096" });
        }
        Ok(NeighbourModel::of_rows(data.rows, self.vectors).encode().into())
    }
}

/// The stored vectors.
#[derive(Clone, Debug, PartialEq)]
pub struct NeighbourModel {
    /// `[count][vector_len]`, in scaled units.
    pub vectors: Vec<f32>,
    /// Numbers of a vector.
    pub vector_len: usize,
}

impl NeighbourModel {
    /// Chooses vectors so that every row is near one of them: first the row nearest to the mean,
    /// then again and again the row farthest from all chosen (Gonzalez 1985, "Clustering to minimize
    /// the maximum intercluster distance", which is at most twice as far as the best choice).
    fn of_rows(rows: Rows<'_>, count: usize) -> Self {
        let width = rows.width();
        let mut chosen = nearest_to_mean(rows);
        let mut model = Self { vectors: Vec::with_capacity(count * width), vector_len: width };
        let mut distances = vec![f32::INFINITY; rows.len()];
        loop {
            let vector = rows.row(chosen);
            model.vectors.extend_from_slice(vector);
            for (distance, row) in distances.iter_mut().zip(rows.iter()) {
                *distance = distance.min(squared_distance(row, vector));
            }
            let farthest = |a: usize, b: usize| if distances[b] > distances[a] { b } else { a };
            chosen = (0..rows.len()).fold(0, farthest);
            if model.vectors.len() >= count * width || distances[chosen] <= 0.0 {
                return model;
            }
        }
    }

    /// Lays the model out for the detector file.
    #[must_use]
    pub fn encode(&self) -> Model {
        let largest = self.vectors.iter().fold(0.0_f32, |largest, x| largest.max(x.abs()));
        let scale = if largest > 0.0 { largest / f32::from(CODE_ABS_MAX) } else { 1.0 };
        let steps = |value: &f32| {
            let most = f32::from(CODE_ABS_MAX);
            (value / scale).round().clamp(-most, most) as i16
        };
        let codes: Vec<i16> = self.vectors.iter().map(steps).collect();
        let mut bytes = vec![0; size_of::<NeighbourHeader>()];
        let header = NeighbourHeader {
            vectors: append(&mut bytes, &codes).offset,
            count: number(self.vectors.len() / self.vector_len.max(1)),
            scale,
            reserved: 0,
        };
        bytes[..size_of::<NeighbourHeader>()].copy_from_slice(bytemuck::bytes_of(&header));
        Model::new(EngineKind::Neighbour, bytes)
    }
}

/// The row nearest to the mean of all, the first of several.
fn nearest_to_mean(rows: Rows<'_>) -> usize {
    let mut sums = vec![0.0_f64; rows.width()];
    for row in rows.iter() {
        for (sum, value) in sums.iter_mut().zip(row) {
            *sum += f64::from(*value);
        }
    }
    let mean: Vec<f32> = sums.iter().map(|sum| (sum / rows.len() as f64) as f32).collect();
    let distances: Vec<f32> = rows.iter().map(|row| squared_distance(row, &mean)).collect();
    (0..rows.len()).fold(0, |a, b| if distances[b] < distances[a] { b } else { a })
}

/// Adds up in eight lanes, always the same ones: the compiler may then use vector instructions.
fn squared_distance(a: &[f32], b: &[f32]) -> f32 {
    const LANES: usize = 8;
    let mut lanes = [0.0_f32; LANES];
    for (a, b) in a.chunks(LANES).zip(b.chunks(LANES)) {
        for (lane, (a, b)) in lanes.iter_mut().zip(a.iter().zip(b)) {
            *lane += (a - b) * (a - b);
        }
    }
    lanes.iter().sum()
}
