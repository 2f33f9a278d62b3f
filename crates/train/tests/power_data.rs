//! The power meter's parts on measurements from outside the project; their folder is named in STONECHAT_RECORDINGS.
//!
//! Run by `cargo xtask test --only data`.
#![allow(clippy::print_stdout, reason = "figures for whoever runs it by hand")]

use std::path::{Path, PathBuf};

use serde_json::json;
use stonechat_core::features::total_harmonic_distortion;
use stonechat_train::dataset::{Choice, Column, ReadOptions, Recording, read};
use stonechat_train::evaluate::Confusion;
use stonechat_train::fit::random_forest::{RandomForestOptions, fit_classes};
use stonechat_train::power::appliance::{Mains, with_mixtures};
use stonechat_train::rows::Rows;

fn data(path: &str) -> PathBuf {
    let folder = std::env::var_os("STONECHAT_RECORDINGS")
        .expect("STONECHAT_RECORDINGS names the folder of recordings");
    Path::new(&folder).join(path)
}

fn table(path: &Path) -> Recording {
    let options = ReadOptions {
        time: Choice::Unused,
        rate_hz: Some(1.0),
        label: Choice::Unused,
        clip: Choice::Unused,
        ..ReadOptions::default()
    };
    let (recording, _) = read(path, &options).expect("a table");
    recording
}

const APPLIANCES: [&str; 3] = ["kettle", "vacuum", "water_heater"];
/// An appliance that draws more is on, as the data's description says.
const ON_W: f32 = 100.0;

fn mains(part: &str) -> Mains {
    let folder = data("power-1hz-appliances/3combi_kettle_vacuum_wheater").join(part);
    let main = table(&folder.join("main.csv"));
    let power = APPLIANCES.map(|name| {
        let own = table(&folder.join(format!("{name}.csv")));
        let own = own.select(&[Column::new("Active (W)")]).expect("its power");
        assert_eq!(own.rows(), main.rows());
        own.samples
    });
    let watts = (0..main.rows()).flat_map(|row| power.each_ref().map(|power| power[row]));
    Mains {
        watts: watts.collect(),
        width: main.channels.len(),
        appliances: APPLIANCES.len(),
        vectors: main.samples,
    }
}

/// Rows of switching that are made from the training part for each pair of states.
const MIXTURES: usize = 300;

#[test]
#[ignore = "needs real recordings: cargo xtask test --only data"]
fn each_appliance_is_known_by_the_sum_of_all() {
    let (train, test) = (mains("train_data"), mains("test_data"));
    assert_eq!((train.vectors.len() / train.width, test.vectors.len() / test.width), (621, 287));
    let mut least = [[1.0_f64; 2]; APPLIANCES.len()];
    for seed in 1..=5 {
        let mixed = with_mixtures(&train, ON_W, MIXTURES, seed);
        for (appliance, name) in APPLIANCES.iter().enumerate() {
            let options =
                RandomForestOptions { seed, max_depth: Some(12), ..RandomForestOptions::default() };
            let score = |training: &Mains| {
                let classes: Vec<u8> =
                    training.is_on(appliance, ON_W).into_iter().map(u8::from).collect();
                let rows = Rows::new(&training.vectors, training.width).unwrap();
                let forest = fit_classes(rows, &classes, &options, 2).unwrap();
                let rows = Rows::new(&test.vectors, test.width).unwrap();
                let found = forest.classify(rows, 2).unwrap();
                let verdicts: Vec<bool> = found.iter().map(|class| *class == 1).collect();
                Confusion::of_verdicts(&verdicts, &test.is_on(appliance, ON_W)).f1().unwrap()
            };
            let (plain, with) = (score(&train), score(&mixed));
            least[appliance] = [least[appliance][0].min(plain), least[appliance][1].min(with)];
            assert!(with >= 0.97, "seed {seed} {name}: {with}");
        }
    }
    for (name, [plain, with]) in APPLIANCES.iter().zip(least) {
        let name = format!("power.appliances.{name}.f1_of_five_seeds_min");
        println!("{}", json!({"name": name, "value": with}));
        let name = format!("{name}_without_switching_rows");
        println!("{}", json!({"name": name, "value": plain}));
    }
}

#[test]
#[ignore = "needs real recordings: cargo xtask test --only data"]
fn harmonics_add_up_to_the_distortion_that_the_analyser_states() {
    let folder = data("power-1min-harmonics/three_phase");
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut errors = Vec::new();
    for file in &files {
        let recording = table(file);
        for phase in ["L1", "L2", "L3"] {
            let mut columns = vec![Column::new(&format!("VTHD {phase} AVG"))];
            let orders = [3, 5, 7, 9, 11, 13];
            columns.extend(orders.map(|h| Column::new(&format!("VHarmonic {phase} {h}'th AVG"))));
            let chosen = recording.select(&columns).expect("the columns");
            for row in 0..chosen.rows() {
                let [stated, harmonics @ ..] = chosen.row(row) else { panic!("no columns") };
                // The harmonics are percent of the fundamental.
                let spectrum: Vec<f32> = [100.0].iter().chain(harmonics).copied().collect();
                errors.push(f64::from((total_harmonic_distortion(&spectrum) - stated).abs()));
            }
        }
    }
    errors.sort_unstable_by(f64::total_cmp);
    let at = |share: f64| errors[((errors.len() - 1) as f64 * share) as usize];
    for (name, share) in [("median", 0.5), ("p99", 0.99), ("max", 1.0)] {
        let name = format!("power.harmonics_to_thd.error_{name}");
        println!("{}", json!({"name": name, "value": at(share), "unit": "points"}));
    }
    assert_eq!(errors.len(), 5 * 1_440 * 3);
    assert!(at(0.5) <= 0.01, "{}", at(0.5));
    // Averages over a minute of each harmonic do not give the average of their root sum exactly.
    assert!(at(1.0) <= 0.15, "{}", at(1.0));
}
