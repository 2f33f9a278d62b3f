//! Robust z-score, Mahalanobis distance, principal components and nearest neighbour, fitted here and run by
//! the core, beside NumPy and scikit-learn (`testdata/make/covariance.py`).

use std::ops::ControlFlow;

use stonechat_core::decision::DecisionRule;
use stonechat_core::detector::format::ScalerEntry;
use stonechat_core::detector::{Detector, Engine, LoadError, ScoreRule};
use stonechat_core::features::{Feature, FeatureKind};
use stonechat_core::pipeline::Pipeline;
use stonechat_train::compile::{
    ChannelSpec, CompileError, DetectorFile, DetectorSpec, Model, compile,
};
use stonechat_train::fit::covariance::{
    MahalanobisModel, MahalanobisOptions, PcaModel, PcaOptions,
};
use stonechat_train::fit::neighbour::{NeighbourModel, NeighbourOptions};
use stonechat_train::fit::robust_zscore::{RobustZScoreModel, RobustZScoreOptions};
use stonechat_train::fit::{Fit, FitError, TrainingData};
use stonechat_train::rows::Rows;

/// Single precision against double, on numbers of magnitude 1 to 10.
const TOLERANCE: f64 = 2e-5;

#[derive(serde::Deserialize)]
struct Golden {
    name: String,
    rows: Vec<Vec<f32>>,
    probes: Vec<Vec<f32>>,
    alpha: f32,
    frozen: Vec<Vec<f64>>,
    adaptive: Vec<Vec<f64>>,
    shrinkage: f64,
    distances: Vec<f64>,
    expected: Vec<Vec<f64>>,
    fixed_shrinkage: f64,
    fixed_distances: Vec<f64>,
    variance_share: f64,
    component_count: usize,
    reconstruction: Vec<Vec<f64>>,
    neighbours: usize,
    nearest: Vec<Vec<f64>>,
    nearest_distances: Vec<f64>,
}

fn goldens() -> Vec<Golden> {
    serde_json::from_str(include_str!("../../../testdata/covariance.json")).expect("committed")
}

fn fitted(options: &dyn Fit, rows: &[Vec<f32>]) -> Result<Model, FitError> {
    let values = rows.concat();
    let data = TrainingData {
        rows: Rows::new(&values, rows[0].len())?,
        channels: 1,
        run_starts: &[0],
        labels: None,
        threads: 1,
    };
    Ok(options.fit(&data, &mut |_| ControlFlow::Continue(()))?.model)
}

/// A detector that hands each sample to the model as it is.
fn detector(model: Model, width: usize) -> Result<DetectorFile, CompileError> {
    compile(&outline(model, width))
}

fn outline(model: Model, width: usize) -> DetectorSpec {
    let channel = |index| ChannelSpec {
        name: format!("c{index}"),
        unit: String::new(),
        minimum: -1e6,
        maximum: 1e6,
    };
    let feature = |channel| Feature { kind: FeatureKind::Samples, channel, parameter: 1 };
    DetectorSpec {
        name: "golden".into(),
        rate_hz: 1.0,
        window_len: 1,
        stride: 1,
        channels: (0..width).map(channel).collect(),
        features: (0..width as u16).map(feature).collect(),
        scaler: vec![ScalerEntry { offset: 0.0, gain: 1.0 }; width],
        gains: Vec::new(),
        traces: Vec::new(),
        model,
        score_rule: ScoreRule::RootMeanSquare,
        smoothing: 1,
        decision_rule: DecisionRule {
            threshold: 1.0,
            clear_level: 0.5,
            raise_count: 1,
            raise_of: 1,
            clear_count: 1,
        },
        provenance: "{}".into(),
    }
}

/// What the core made of one vector.
struct Found {
    score: f64,
    residuals: Vec<f64>,
    reconstruction: Vec<f64>,
}

fn run(file: &DetectorFile, probes: &[Vec<f32>]) -> Vec<Found> {
    let detector = file.detector();
    let mut memory = vec![0; detector.memory_words()];
    let mut pipeline = Pipeline::new(&detector, &mut memory).unwrap();
    let mut found = Vec::new();
    for probe in probes {
        let result = pipeline.push(probe).unwrap().expect("each sample is a window");
        found.push(Found {
            score: f64::from(result.score),
            residuals: pipeline.residuals().iter().map(|x| f64::from(*x)).collect(),
            reconstruction: (0..probe.len())
                .map(|index| f64::from(pipeline.reconstruction(index).unwrap()))
                .collect(),
        });
    }
    found
}

fn assert_near(found: &[f64], expected: &[f64], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (found, expected) in found.iter().zip(expected) {
        let error = (found - expected).abs() / expected.abs().max(1.0);
        assert!(error < TOLERANCE, "{what}: {found}, expected {expected}");
    }
}

fn assert_scores(found: &[Found], expected: &[f64], what: &str) {
    let scores: Vec<f64> = found.iter().map(|found| found.score).collect();
    assert_near(&scores, expected, what);
}

#[test]
fn the_robust_z_score_is_that_of_numpy_frozen_and_adaptive() {
    for golden in goldens() {
        for (alpha, expected) in [(0.0, &golden.frozen), (golden.alpha, &golden.adaptive)] {
            let model = fitted(&RobustZScoreOptions { alpha }, &golden.rows).unwrap();
            let found = run(&detector(model, golden.rows[0].len()).unwrap(), &golden.probes);
            for (found, expected) in found.iter().zip(expected) {
                assert_near(&found.residuals, expected, &format!("{}, {alpha}", golden.name));
            }
        }
    }
}

#[test]
fn the_running_median_ends_where_the_data_move_and_one_outlier_moves_it_one_step() {
    let model = RobustZScoreModel {
        medians: vec![0.0],
        spreads: vec![1.0],
        alpha: 0.01,
        minimum_deviation: 0.05,
    };
    let file = detector(model.encode(), 1).unwrap();
    // Evenly spread from 4 to 8: median 6, median absolute deviation 1.
    let moved: Vec<Vec<f32>> =
        (0..4_000).map(|i| vec![4.0 + (i * 37 % 101) as f32 * 0.04]).collect();
    let found = run(&file, &moved);
    let last = &found[3_999];
    assert!((last.reconstruction[0] - 6.0).abs() < 0.15, "{}", last.reconstruction[0]);
    let z = (f64::from(moved[3_999][0]) - last.reconstruction[0]) / last.residuals[0];
    assert!((z - 1.4826).abs() < 0.15, "the deviation is {z}");

    let outlier = run(&file, &[vec![9e5], vec![0.0]]);
    assert!((outlier[1].reconstruction[0] - 0.014_826).abs() < 1e-5);
}

#[test]
fn a_spread_of_nothing_grows_again() {
    let model = RobustZScoreModel {
        medians: vec![0.0],
        spreads: vec![0.0],
        alpha: 0.05,
        minimum_deviation: 0.05,
    };
    let noise: Vec<Vec<f32>> = (0..2_000).map(|i| vec![(i * 37 % 101) as f32 - 50.0]).collect();
    let found = run(&detector(model.encode(), 1).unwrap(), &noise);
    let late = found[1_900..].iter().map(|found| found.score).fold(0.0, f64::max);
    assert!(found[0].score > 900.0 && late < 2.5, "{}, {late}", found[0].score);
}

#[test]
fn the_mahalanobis_distance_is_that_of_scikit_learn() {
    for golden in goldens() {
        let width = golden.rows[0].len();
        let model = fitted(&MahalanobisOptions::default(), &golden.rows).unwrap();
        let found = run(&detector(model, width).unwrap(), &golden.probes);
        assert_scores(&found, &golden.distances, &golden.name);
        for (found, expected) in found.iter().zip(&golden.expected) {
            assert_near(&found.reconstruction, expected, &golden.name);
        }
        let shrinkage = Some(golden.fixed_shrinkage);
        let model = fitted(&MahalanobisOptions { shrinkage }, &golden.rows).unwrap();
        let found = run(&detector(model, width).unwrap(), &golden.probes);
        assert_scores(&found, &golden.fixed_distances, &golden.name);
    }
}

#[test]
fn the_shrinkage_is_that_of_scikit_learn() {
    for golden in goldens() {
        let values = golden.rows.concat();
        let rows = Rows::new(&values, golden.rows[0].len()).unwrap();
        let model = MahalanobisModel::of_rows(rows, None).unwrap();
        assert!((model.shrinkage - golden.shrinkage).abs() < 1e-9, "{}", golden.name);
    }
}

#[test]
fn principal_components_reconstruct_as_scikit_learn() {
    for golden in goldens() {
        let width = golden.rows[0].len();
        let options = PcaOptions { variance_share: golden.variance_share, components: None };
        let file = detector(fitted(&options, &golden.rows).unwrap(), width).unwrap();
        let detector = file.detector();
        let Engine::Pca(engine) = detector.engine() else { panic!("{:?}", detector.engine()) };
        assert_eq!(engine.component_count(), golden.component_count, "{}", golden.name);
        for ((found, expected), probe) in
            run(&file, &golden.probes).iter().zip(&golden.reconstruction).zip(&golden.probes)
        {
            assert_near(&found.reconstruction, expected, &golden.name);
            let squares: f64 =
                probe.iter().zip(expected).map(|(x, y)| (f64::from(*x) - y).powi(2)).sum();
            assert_near(&[found.score], &[(squares / width as f64).sqrt()], &golden.name);
        }
        // As many as can be: what is left is one direction.
        let options = PcaOptions { components: Some(width - 1), ..options };
        assert!(fitted(&options, &golden.rows).is_ok());
    }
}

#[test]
fn the_nearest_of_the_spread_out_rows_is_found() {
    for golden in goldens() {
        let width = golden.rows[0].len();
        let options = NeighbourOptions { vectors: golden.neighbours };
        let file = detector(fitted(&options, &golden.rows).unwrap(), width).unwrap();
        let found = run(&file, &golden.probes);
        // Stored in steps of the largest number over 8191.
        let close = |a: f64, b: f64| (a - b).abs() < 2e-3;
        for (index, found) in found.iter().enumerate() {
            let nearest = &golden.nearest[index];
            assert!(found.reconstruction.iter().zip(nearest).all(|(a, b)| close(*a, *b)));
            assert!(close(found.score, golden.nearest_distances[index]), "{}", golden.name);
        }
    }
}

#[test]
fn neighbours_end_when_every_row_is_stored_and_survive_wild_input() {
    let rows = [vec![1.0, 2.0], vec![1.0, 2.0], vec![-3.0, 0.5]];
    let file = detector(fitted(&NeighbourOptions { vectors: 100 }, &rows).unwrap(), 2).unwrap();
    let detector = file.detector();
    let Engine::Neighbour(engine) = detector.engine() else { panic!("{:?}", detector.engine()) };
    assert_eq!(engine.count(), 2);
    let found = run(&file, &[vec![1.0, 2.0], vec![1e6, -1e6]]);
    assert!(found[0].score < 1e-3);
    assert!((found[1].score / 1e6 - 1.0).abs() < 1e-4, "{}", found[1].score);
    let zeros = [vec![0.0, 0.0]];
    let file = self::detector(fitted(&NeighbourOptions::default(), &zeros).unwrap(), 2).unwrap();
    assert_eq!(run(&file, &[vec![3.0, 4.0]])[0].reconstruction, [0.0, 0.0]);
}

#[test]
fn options_and_data_out_of_bounds_are_refused_with_a_remedy() {
    let rows = [vec![1.0, 2.0], vec![2.0, 4.0], vec![3.0, 6.0], vec![4.0, 8.0]];
    let refused: [(&dyn Fit, &str); 9] = [
        (&RobustZScoreOptions { alpha: 1.5 }, "from 0 to 1"),
        (&RobustZScoreOptions { alpha: f32::NAN }, "from 0 to 1"),
        (&MahalanobisOptions { shrinkage: Some(-0.1) }, "from 0 to 1"),
        (&MahalanobisOptions { shrinkage: Some(0.0) }, "set a shrinkage above 0"),
        (&PcaOptions { variance_share: 1.0, components: None }, "below 1"),
        (&PcaOptions { variance_share: 0.5, components: Some(2) }, "fewer than"),
        (&PcaOptions { variance_share: 0.5, components: Some(0) }, "at least 1"),
        (&NeighbourOptions { vectors: 0 }, "1 to 4096"),
        (&NeighbourOptions { vectors: 4_097 }, "1 to 4096"),
    ];
    for (options, remedy) in refused {
        let message = fitted(options, &rows).unwrap_err().to_string();
        assert!(message.contains(remedy), "{message}");
    }
    assert!(fitted(&MahalanobisOptions::default(), &rows).is_ok());
    let one = [vec![1.0], vec![2.0]];
    let message = fitted(&PcaOptions::default(), &one).unwrap_err().to_string();
    assert!(message.contains("1 numbers, but principal components takes 2"), "{message}");
    let wide = [vec![1.0; 1_025], vec![2.0; 1_025]];
    let message = fitted(&PcaOptions::default(), &wide).unwrap_err().to_string();
    assert!(message.contains("choose other features"), "{message}");
}

#[test]
fn models_out_of_bounds_are_refused_by_the_core() {
    let refuse = |model: Model, width: usize| {
        let error = detector(model, width).unwrap_err();
        assert!(
            matches!(error, CompileError::Rejected(LoadError::Model | LoadError::Part)),
            "{error}"
        );
    };
    let robust = RobustZScoreModel {
        medians: vec![0.0; 2],
        spreads: vec![1.0; 2],
        alpha: 0.1,
        minimum_deviation: 0.05,
    };
    assert!(detector(robust.encode(), 2).is_ok());
    refuse(robust.encode(), 3);
    for broken in [
        RobustZScoreModel { alpha: 2.0, ..robust.clone() },
        RobustZScoreModel { minimum_deviation: 0.0, ..robust.clone() },
        RobustZScoreModel { spreads: vec![1.0, -1.0], ..robust.clone() },
        RobustZScoreModel { medians: vec![0.0, f32::NAN], ..robust },
    ] {
        refuse(broken.encode(), 2);
    }
    let mahalanobis = MahalanobisModel {
        means: vec![0.0; 2],
        whitening: vec![1.0, 0.0, 1.0],
        remainders: vec![1.0; 2],
        shrinkage: 0.0,
    };
    assert!(detector(mahalanobis.encode(), 2).is_ok());
    refuse(mahalanobis.encode(), 3);
    refuse(MahalanobisModel { remainders: vec![1.0, f32::INFINITY], ..mahalanobis }.encode(), 2);
    let pca = PcaModel { means: vec![0.0; 2], components: vec![1.0, 0.0] };
    assert!(detector(pca.encode(), 2).is_ok());
    refuse(PcaModel { components: vec![1.0, 0.0, 0.0, 1.0], ..pca.clone() }.encode(), 2);
    refuse(PcaModel { components: Vec::new(), ..pca.clone() }.encode(), 2);
    refuse(PcaModel { components: vec![f32::NAN, 0.0], ..pca }.encode(), 2);
    let neighbour = NeighbourModel { vectors: Vec::new(), vector_len: 2 };
    refuse(neighbour.encode(), 2);
    let neighbour = NeighbourModel { vectors: vec![1.0; 4], vector_len: 2 };
    assert!(detector(neighbour.encode(), 2).is_ok());
    refuse(neighbour.encode(), 3);
}

#[test]
fn the_whitening_of_a_hand_made_covariance_gives_its_distance() {
    // Variances 4 and 1, covariance 1: L = [2 0; 1/2 √3/2], d² of (2, 1) is 4/3.
    let root = 3.0_f32.sqrt();
    let model = MahalanobisModel {
        means: vec![0.0; 2],
        whitening: vec![0.5, -0.5 / root, 2.0 / root],
        remainders: vec![3.0, 0.75],
        shrinkage: 0.0,
    };
    let file = detector(model.encode(), 2).unwrap();
    assert_eq!(Detector::load(file.bytes()).unwrap().vector_len(), 2);
    let found = run(&file, &[vec![2.0, 1.0]]);
    assert_near(&[found[0].score.powi(2) * 2.0], &[4.0 / 3.0], "d²");
    // The mean of one given the other: 1 * x2 and x1 / 4.
    assert_near(&found[0].reconstruction, &[1.0, 0.5], "conditional means");
}

#[test]
fn scores_are_smoothed_exponentially_until_a_gap() {
    let model = PcaModel { means: vec![0.0; 2], components: vec![1.0, 0.0] };
    let mut spec = outline(model.encode(), 2);
    spec.score_rule = ScoreRule::Maximum;
    spec.smoothing = 3;
    let file = compile(&spec).unwrap();
    let detector = file.detector();
    // Three windows of one sample each: the middle of what the score speaks of is one sample back.
    assert_eq!((detector.smoothing(), detector.coverage().len), (3, 3));
    let mut memory = vec![0; detector.memory_words()];
    let mut pipeline = Pipeline::new(&detector, &mut memory).unwrap();
    let mut score = |value: f32| pipeline.push(&[0.0, value]).unwrap().unwrap().score;
    // Weight 2 / (3 + 1); the first score stands alone.
    assert_eq!([8.0, 0.0, 4.0].map(&mut score), [8.0, 4.0, 4.0]);
    assert!(pipeline.push(&[0.0, f32::NAN]).is_err());
    assert_eq!(pipeline.push(&[0.0, 1.0]).unwrap().unwrap().score, 1.0);

    spec.smoothing = 65_537;
    assert!(matches!(compile(&spec), Err(CompileError::Rejected(LoadError::Decision))));
}
