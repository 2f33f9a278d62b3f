//! What holds for every kind of detector alike.

mod common;

use std::ops::ControlFlow;

use stonechat_train::compile::DetectorFile;
use stonechat_train::evaluate::roc_auc;
use stonechat_train::recipe::{DetectorChoice, Recipe};
use stonechat_train::replay::{replay, window_labels};
use stonechat_train::train::train_on;

/// Every kind, networks with few epochs.
fn recipes() -> Vec<Recipe> {
    let recipe = |mut detector: DetectorChoice| {
        if detector.has("fit.epochs") {
            detector.set("fit.epochs", 15.into()).expect("is a setting");
        }
        let (window_len, stride) = detector.lay_out(Some(16), Some(4));
        Recipe {
            name: detector.kind().to_owned(),
            features: detector.usual_features(),
            detector,
            window_len,
            stride,
            ..Recipe::default()
        }
    };
    DetectorChoice::all().into_iter().map(recipe).collect()
}

fn trained(threads: usize, recipe: &Recipe) -> DetectorFile {
    let recording = common::machine(2_400, 1);
    let trained = train_on(threads, &recording, recipe, |_| ControlFlow::Continue(()));
    trained.unwrap_or_else(|error| panic!("{}: {error}", recipe.name)).file
}

#[test]
fn the_file_is_the_same_to_the_byte_on_any_number_of_threads() {
    for recipe in recipes() {
        let one = trained(1, &recipe);
        for threads in [2, 3] {
            assert!(one == trained(threads, &recipe), "{} on {threads} threads", recipe.name);
        }
    }
}

#[test]
fn every_kind_ranks_bursts_above_normal_windows() {
    let recording = common::machine(4_000, 2);
    for recipe in recipes() {
        let file = trained(2, &recipe);
        let detector = file.detector();
        let run = replay(&detector, &recording, |_, _| {}).expect("fits");
        let labels = window_labels(&recording, &run, &detector);
        let scores: Vec<f64> = run.windows.iter().map(|window| f64::from(window.score)).collect();
        let area = roc_auc(&scores, &labels).expect("both classes are there");
        assert!(area > area_min(&recipe.detector), "{}: {area}", recipe.name);
    }
}

/// The bursts are strong; chance would give 0.5.
fn area_min(detector: &DetectorChoice) -> f64 {
    match detector {
        // What comes again becomes normal to it, as these bursts do.
        DetectorChoice::Learner(_) => 0.7,
        // Fifteen epochs are few for it.
        DetectorChoice::Recurrent(_) => 0.8,
        _ => 0.9,
    }
}
