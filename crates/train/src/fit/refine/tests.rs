use super::super::trainer::{Tables, Trainer};
use super::super::{Architecture, Ending};
use super::*;

/// Rows of `width` columns that three random factors explain, with a little noise.
fn rows(count: usize, width: usize) -> Vec<f32> {
    let mut random = Random::new(5);
    let mut values = Vec::with_capacity(count * width);
    for _ in 0..count {
        let factors = [(); 3].map(|()| random.normal());
        for column in 0..width {
            let c = column as f64;
            let mix = factors[0] * (0.4 * c).cos()
                + factors[1] * (0.9 * c).sin()
                + factors[2] * (0.2 + 0.3 * c).sin();
            values.push((0.7 * mix + 0.1 * random.normal()) as f32);
        }
    }
    values
}

fn quietly(_: Progress) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn options(epochs: usize) -> FitOptions {
    FitOptions { epochs, batch: 32, learning_rate: 3e-3, ..FitOptions::default() }
}

fn tables<'a>(values: &'a [f32], width: usize, options: &'a FitOptions) -> (Tables<'a>, Random) {
    let mut random = Random::new(1);
    let architecture = Architecture::autoencoder(width, &[16, 6]);
    let trainer = Trainer::new(&architecture, options.batch, &mut random);
    let rows = Rows::new(values, width).unwrap();
    (Tables { trainer, inputs: rows, targets: rows, options }, random)
}

fn refinement(fit: &FitOptions) -> Refinement<'_> {
    let quantisation_aware = QuantisationAware::Auto;
    Refinement { precision: Precision::Int8, prune: 0.0, quantisation_aware, fit }
}

#[test]
fn the_share_of_zeros_grows_as_zhu_and_gupta_have_it() {
    let (values, options) = (rows(100, 10), options(4));
    let (mut learner, _) = tables(&values, 10, &options);
    let mut pruning = Pruning { learner: &mut learner, share: 0.8, growth: 4 };
    // 0.8 (1 - (1 - t)^3) at a quarter, a half, three quarters and the end.
    for (epoch, share) in [(1, 0.4625), (2, 0.7), (3, 0.7875), (4, 0.8), (5, 0.8)] {
        assert_eq!(pruning.begin(epoch), epoch >= 4);
        let values = pruning.parameters().to_vec();
        let found = pruning.learner.parameters_mut().share_of_zeros(&values);
        assert!((found - share).abs() < 0.01, "epoch {epoch}: {found}");
    }
}

#[test]
fn a_pruned_network_has_its_zeros_and_still_reconstructs() {
    let (values, options) = (rows(600, 10), options(60));
    let (mut learner, mut random) = tables(&values, 10, &options);
    let refinement =
        Refinement { prune: 0.5, precision: Precision::Float32, ..refinement(&options) };
    let fitted = run(&mut learner, &refinement, &mut random, &mut quietly).unwrap();
    assert!((fitted.refined.pruned_share.unwrap() - 0.5).abs() < 0.01);
    assert!(fitted.refined.float_twin.is_none());
    let loss = |epoch: usize| fitted.history[epoch - 1].validation_loss.unwrap();
    assert!(fitted.history.iter().map(|now| now.epoch).eq(1..=fitted.history.len()));
    let whole = (1..=60.min(fitted.history.len())).map(loss).fold(f64::INFINITY, f64::min);
    let pruned = loss(fitted.best_epoch.unwrap());
    assert!(pruned < 2.0 * whole, "{pruned} after {whole}");
    for share in [-0.1, 0.96, f64::NAN] {
        let refinement = Refinement { prune: share, ..refinement };
        let error = run(&mut learner, &refinement, &mut random, &mut quietly).unwrap_err();
        assert!(matches!(error, FitError::Option { option: "prune", .. }), "{error}");
    }
}

/// Fits in single precision and then stretches some hidden values, which single precision does not
/// notice: in int8 the others are left with few steps.
fn stretched<'a>(values: &'a [f32], options: &'a FitOptions) -> (Tables<'a>, Random, Run) {
    let (mut learner, mut random) = tables(values, 10, options);
    let mut run = epochs::run(&mut learner, options, &mut random, &mut quietly).unwrap();
    learner.parameters_mut().restart(&run.parameters);
    for output in [1, 4] {
        learner.trainer.stretch(0, output, 60.0);
        learner.trainer.stretch(2, output, 60.0);
    }
    run.parameters = learner.parameters().to_vec();
    (learner, random, run)
}

#[test]
fn training_with_rounding_wins_back_what_calibration_alone_loses() {
    let (values, options) = (rows(1_000, 10), options(80));
    let (mut learner, mut random, run) = stretched(&values, &options);
    let wanted = refinement(&options);
    let fitted = refine(&mut learner, run, &wanted, &mut random, &mut quietly).unwrap();
    let loss = fitted.refined.quantisation.unwrap();
    let before = loss.float_auc - loss.int8_auc;
    assert!(before > 0.05, "{loss:?}");
    let after = loss.float_auc - loss.aware_auc.unwrap();
    assert!(loss.aware_kept && after < 0.5 * before, "{loss:?}");

    let (mut learner, mut random, run) = stretched(&values, &options);
    let never = Refinement { quantisation_aware: QuantisationAware::Never, ..wanted };
    let fitted = refine(&mut learner, run, &never, &mut random, &mut quietly).unwrap();
    let loss = fitted.refined.quantisation.unwrap();
    assert!(loss.aware_auc.is_none() && !loss.aware_kept);
}

#[test]
fn a_network_that_int8_serves_well_is_left_alone() {
    let (values, options) = (rows(600, 10), options(60));
    let fitted = || {
        let (mut learner, mut random) = tables(&values, 10, &options);
        run(&mut learner, &refinement(&options), &mut random, &mut quietly).unwrap()
    };
    let first = fitted();
    let loss = first.refined.quantisation.unwrap();
    assert!((0.9..0.99).contains(&loss.float_auc), "{loss:?}");
    assert!(loss.float_auc - loss.int8_auc <= INT8_AUC_LOSS_MAX, "{loss:?}");
    assert_eq!(loss.aware_auc, None);
    assert!(matches!(first.ending, Some(Ending::Epochs | Ending::Patience)));
    let again = fitted();
    assert_eq!((again.model, again.refined), (first.model, first.refined));
}
