use super::trainer::ConvolutionTrainer;
use super::*;
use crate::network::{Activation, NetworkError};

/// Smooth rows of `channels` times `len` numbers that two factors explain.
fn rows(count: usize, channels: usize, len: usize) -> Vec<f32> {
    let width = channels * len;
    (0..count * width)
        .map(|index| {
            let (row, column) = ((index / width) as f32, index % width);
            let (channel, place) = ((column / len) as f32, (column % len) as f32);
            (row * 0.7 + place * 0.5 + channel).sin() + 0.5 * (row * 0.31 - place).cos()
        })
        .collect()
}

fn form(channels: usize, len: usize, filters: &[usize], kernel_width: usize) -> ConvolutionForm {
    ConvolutionForm { channels, len, filters: filters.to_vec(), kernel_width }
}

fn quietly(_: Progress) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// A parameter of one layer, moved by a little.
#[derive(Clone, Copy)]
struct Moved {
    layer: usize,
    /// Counts the weights, then the biases.
    parameter: usize,
    by: f64,
}

/// One layer in f64, written from the definition: pad, repeat, slide.
fn plain_layer(
    layer: &crate::network::convolution::ConvolutionLayer,
    moved: Option<Moved>,
    input: &[Vec<f64>],
) -> Vec<Vec<f64>> {
    let geometry = layer.geometry;
    let (filters, channels) = (layer.product.outputs, geometry.channels);
    let parameter = |at: usize, value: f32| {
        f64::from(value) + moved.filter(|moved| moved.parameter == at).map_or(0.0, |m| m.by)
    };
    let mut repeated: Vec<Vec<f64>> = Vec::new();
    for place in input {
        repeated.extend(vec![place.clone(); geometry.upsampling]);
    }
    repeated.truncate(geometry.upsampled_len);
    // TensorFlow's SAME: the rest of the padding goes behind.
    let outputs = repeated.len().div_ceil(geometry.stride);
    let needed = (outputs - 1) * geometry.stride + geometry.kernel_width;
    let before = needed.saturating_sub(repeated.len()) / 2;
    let mut padded = vec![vec![0.0; channels]; before];
    padded.extend(repeated);
    padded.extend(vec![vec![0.0; channels]; geometry.kernel_width]);
    let number = |place: usize, filter: usize| {
        let mut sum = parameter(layer.product.weights.len() + filter, layer.product.bias[filter]);
        for tap in 0..geometry.kernel_width {
            for (channel, x) in padded[place * geometry.stride + tap].iter().enumerate() {
                let at = (filter * geometry.kernel_width + tap) * channels + channel;
                sum += parameter(at, layer.product.weights[at]) * x;
            }
        }
        if layer.product.activation == Activation::Relu { sum.max(0.0) } else { sum }
    };
    (0..outputs).map(|place| (0..filters).map(|f| number(place, f)).collect()).collect()
}

fn plain(network: &ConvolutionNetwork, moved: Option<Moved>, row: &[f32]) -> Vec<f64> {
    let channels = network.layers[0].geometry.channels;
    let len = row.len() / channels;
    let mut values: Vec<Vec<f64>> = (0..len)
        .map(|place| (0..channels).map(|c| f64::from(row[c * len + place])).collect())
        .collect();
    for (index, layer) in network.layers.iter().enumerate() {
        values = plain_layer(layer, moved.filter(|moved| moved.layer == index), &values);
    }
    (0..channels).flat_map(|c| values.iter().map(move |place| place[c])).collect()
}

fn loss(network: &ConvolutionNetwork, moved: Option<Moved>, rows: Rows<'_>) -> f64 {
    let mut total = 0.0;
    for row in rows.iter() {
        let errors = plain(network, moved, row).into_iter().zip(row);
        total += errors.map(|(y, x)| (y - f64::from(*x)).powi(2)).sum::<f64>();
    }
    total / (rows.len() * rows.width()) as f64
}

#[test]
fn the_decoder_mirrors_the_encoder() {
    let layers = form(3, 13, &[8, 4], 5).layers();
    let shapes: Vec<_> = layers
        .iter()
        .map(|(g, filters, _)| (g.channels, g.input_len, *filters, g.output_len()))
        .collect();
    assert_eq!(shapes, [(3, 13, 8, 7), (8, 7, 4, 4), (4, 4, 8, 7), (8, 7, 3, 13)]);
    let activations: Vec<_> = layers.iter().map(|(_, _, activation)| *activation).collect();
    assert_eq!(activations[..3], [Activation::Relu; 3]);
    assert_eq!(activations[3], Activation::Linear);
}

#[test]
fn the_forward_pass_is_the_definition() {
    for (channels, len, filters, kernel_width) in
        [(1, 16, &[4][..], 3), (3, 13, &[8, 4], 5), (2, 7, &[3], 4), (1, 5, &[2, 2, 2], 1)]
    {
        let form = form(channels, len, filters, kernel_width);
        let mut trainer = ConvolutionTrainer::new(&form, 1, &mut Random::new(1));
        trainer.raise_biases(0.1);
        let network = trainer.snapshot();
        let row = rows(1, channels, len);
        for (found, exact) in network.forward(&row).iter().zip(plain(&network, None, &row)) {
            assert!((f64::from(*found) - exact).abs() < 1e-5, "{found} is not {exact}");
        }
    }
}

#[test]
fn gradients_match_central_differences() {
    const BATCH: usize = 5;
    /// So small that hardly any step crosses the bend of a ReLU.
    const STEP: f64 = 1e-7;
    for (channels, len, filters, kernel_width) in
        [(1, 16, &[4][..], 3), (3, 13, &[8, 4], 5), (2, 7, &[3], 4), (9, 6, &[10, 3], 2)]
    {
        let form = form(channels, len, filters, kernel_width);
        let values = rows(BATCH, channels, len);
        let table = Rows::new(&values, channels * len).unwrap();
        let mut trainer = ConvolutionTrainer::new(&form, BATCH, &mut Random::new(3));
        trainer.raise_biases(0.05);
        let order: Vec<u32> = (0..BATCH as u32).collect();
        let squares = trainer.accumulate(table, &order);
        let network = trainer.snapshot();
        let exact = loss(&network, None, table);
        let found = squares / (BATCH * channels * len) as f64;
        assert!((found - exact).abs() < 1e-5 * exact, "{found} is not {exact}");
        for (layer, gradients) in trainer.gradients().layers.iter().enumerate() {
            let gradients = gradients.product.weights.iter().chain(&gradients.product.bias);
            for (parameter, analytic) in gradients.enumerate() {
                let at = |by| loss(&network, Some(Moved { layer, parameter, by }), table);
                let numeric = (at(STEP) - at(-STEP)) / (2.0 * STEP);
                assert!(
                    (f64::from(*analytic) - numeric).abs() < 1e-6 + 1e-5 * numeric.abs(),
                    "layer {layer} parameter {parameter}: {analytic}, numerically {numeric}"
                );
            }
        }
    }
}

#[test]
fn an_autoencoder_learns_and_the_seed_decides_every_bit() {
    let values = rows(300, 2, 16);
    let table = Rows::new(&values, 32).unwrap();
    let form = form(2, 16, &[8, 4], 5);
    let options =
        FitOptions { epochs: 40, batch: 16, learning_rate: 5e-3, ..FitOptions::default() };
    let fitted = fit_convolution(&form, table, &options, &mut quietly).unwrap();
    let first = fitted.history[0].validation_loss.unwrap();
    let best = fitted.history[fitted.best_epoch - 1].validation_loss.unwrap();
    assert!(best < 0.1 * first, "from {first} to {best}");
    assert_eq!(fit_convolution(&form, table, &options, &mut quietly).unwrap(), fitted);
    let other = FitOptions { seed: 1, ..options };
    let other = fit_convolution(&form, table, &other, &mut quietly).unwrap();
    assert_ne!(other.network, fitted.network);
}

#[test]
fn every_instruction_set_gives_the_same_bits() {
    let values = rows(20, 3, 11);
    let table = Rows::new(&values, 33).unwrap();
    let order: Vec<u32> = (0..20).collect();
    let form = form(3, 11, &[9, 4], 3);
    let trained = |scalar: bool| {
        let mut trainer = ConvolutionTrainer::new(&form, 8, &mut Random::new(11));
        if scalar {
            trainer.use_scalar_instructions();
        }
        for batch in order.chunks(8) {
            trainer.train(table, batch, &FitOptions::default());
        }
        trainer.snapshot()
    };
    assert_eq!(trained(true), trained(false));
}

#[test]
fn forms_and_rows_that_do_not_fit_are_refused() {
    let values = rows(20, 2, 8);
    let table = Rows::new(&values, 16).unwrap();
    let options = FitOptions::default();
    let refused =
        |form: &ConvolutionForm| fit_convolution(form, table, &options, &mut quietly).unwrap_err();
    assert!(matches!(refused(&form(3, 8, &[4], 3)), FitError::Width { found: 16, .. }));
    assert_eq!(refused(&form(2, 8, &[], 3)), FitError::Network(NetworkError::Empty));
    for (change, name) in [
        (ConvolutionOptions { filters: vec![], ..Default::default() }, "the number of filters"),
        (ConvolutionOptions { filters: vec![4, 0], ..Default::default() }, "filters"),
        (ConvolutionOptions { kernel_width: 0, ..Default::default() }, "kernel_width"),
        (ConvolutionOptions { kernel_width: 17, ..Default::default() }, "kernel_width"),
    ] {
        match change.form(16, 2) {
            Err(FitError::Option { option, .. }) => assert_eq!(option, name),
            other => panic!("{name}: {other:?}"),
        }
    }
    assert!(ConvolutionOptions::default().form(16, 3).is_err());
}
