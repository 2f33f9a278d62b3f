//! A recording in the place of simulated rooms.

use std::ops::ControlFlow;
use std::sync::Arc;

use stonechat_train::train::train;

use super::{Scene, Watched};
use crate::cmd::device::{Samples, Speed};
use crate::cmd::train::RecipeArgs;
use crate::data::{ReadArgs, Source};
use crate::output::Output;
use crate::shell::Pace;

/// The share of the first recording that is trained on.
const TRAINING_SHARE: f64 = 0.6;
const DEVICE_ID: &str = "recording";

/// Trains on the first part of the first recording; a device replays the rest of it, then the others.
pub(super) fn scene(
    sources: &[Source],
    speed: Speed,
    read: &ReadArgs,
    recipe: &RecipeArgs,
    output: &Output,
) -> anyhow::Result<Scene> {
    let (training, rest) = sources[0].split(TRAINING_SHARE);
    let (training, mut rest) = (read.read(&training, output)?, read.read(&rest, output)?);
    for source in &sources[1..] {
        rest.append(&read.read(source, output)?)?;
    }
    let trained = train(&training, &recipe.recipe(DEVICE_ID)?, |_| ControlFlow::Continue(()))?;
    let pace = match speed {
        Speed::Factor(factor) => Pace::Rate(rest.rate_hz * factor),
        Speed::Max => Pace::Full,
    };
    let about = format!("1 replays {} samples after {} to train on", rest.rows(), training.rows());
    let source = Box::new(Samples::of(Arc::new(rest)));
    Ok(Scene {
        trained,
        devices: vec![Watched { id: DEVICE_ID.to_owned(), source, pace }],
        about,
        injected: Arc::default(),
    })
}
