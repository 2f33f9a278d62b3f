//! Times the fit of a 16-32-16-8-16-32-16 autoencoder, beside PyTorch when it is there.
#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::ops::ControlFlow;
use std::time::Instant;

use stonechat_train::fit::{Architecture, FitOptions, fit_autoencoder};
use stonechat_train::rows::Rows;

fn main() {
    let values = rows(20_000, 16);
    let rows = Rows::new(&values, 16).unwrap();
    let architecture = Architecture::autoencoder(16, &[32, 16, 8]);
    let options = FitOptions {
        epochs: 20,
        validation_share: 0.0,
        ..FitOptions::default()
    };
    for _ in 0..7 {
        let start = Instant::now();
        let fitted =
            fit_autoencoder(&architecture, rows, &options, |_| ControlFlow::Continue(())).unwrap();
        println!(
            "{:.4} s loss {:.6}",
            start.elapsed().as_secs_f64(),
            fitted.history.last().unwrap().train_loss
        );
    }
}

fn rows(count: usize, width: usize) -> Vec<f32> {
    let mut state = 1_u32;
    let mut noise = move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / 16_777_216.0 - 0.5
    };
    (0..count)
        .flat_map(|_| {
            let factors = [noise(), noise(), noise(), noise()].map(|x| x * 6.0);
            (0..width)
                .map(|column| {
                    let c = column as f32;
                    let mix = factors[0] * (c * 0.3).sin()
                        + factors[1] * (c * 0.7).cos()
                        + (factors[2] + c * 0.2).sin()
                        + (factors[3] * (c * 0.5).sin()).tanh();
                    mix * 0.5 + 0.1 * noise()
                })
                .collect::<Vec<f32>>()
        })
        .collect()
}
