//! Exported files in the interpreters and compilers of others, beside our own runtime.
//!
//! `STONECHAT_PYTHON` names a Python with `testdata/oracles/requirements.txt`.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::Command;

use stonechat_core::decision::DecisionRule;
use stonechat_core::detector::format::ScalerEntry;
use stonechat_core::detector::{Engine, ScoreRule};
use stonechat_core::features::{Feature, FeatureKind};
use stonechat_core::pipeline::Pipeline;
use stonechat_train::compile::{ChannelSpec, DetectorFile, DetectorSpec, Model, compile};
use stonechat_train::export::{
    c_header, tflite_convolution_float, tflite_convolution_int8, tflite_float, tflite_int8,
};
use stonechat_train::fit::convolution::fit_convolution;
use stonechat_train::fit::{Architecture, FitOptions, fit_autoencoder};
use stonechat_train::network::convolution::{ConvolutionForm, ConvolutionNetwork};
use stonechat_train::network::{Activation, Network};
use stonechat_train::quantise::{
    Calibration, QuantiseOptions, WeightScaling, quantise, quantise_convolution,
};
use stonechat_train::random::Random;
use stonechat_train::rows::Rows;

const VECTORS: usize = 2_000;
/// As many as the issue asks for where a kernel is compared bit for bit.
const INT8_VECTORS: usize = 10_000;
/// The bound on the difference of float outputs, which are of magnitude 1 here.
const FLOAT_TOLERANCE: f32 = 1e-5;
/// LiteRT rounds otherwise than TensorFlow Lite Micro: a step in each of up to six layers.
const LITERT_STEPS: i32 = 6;

/// Rows that three random factors explain, in time order.
fn rows(count: usize, width: usize, seed: u64) -> Vec<f32> {
    let mut random = Random::new(seed);
    let mut values = Vec::with_capacity(count * width);
    for _ in 0..count {
        let factors = [(); 3].map(|()| random.normal());
        for column in 0..width {
            let c = column as f64;
            let mix = factors[0] * (0.4 * c).cos()
                + factors[1] * (0.9 * c).sin()
                + (factors[2] + 0.3 * c).sin();
            values.push((0.7 * mix + 0.05 * random.normal()) as f32);
        }
    }
    values
}

fn fitted(architecture: &Architecture, values: &[f32]) -> Network {
    let options = FitOptions { epochs: 15, ..FitOptions::default() };
    let rows = Rows::new(values, architecture.widths[0]).unwrap();
    fit_autoencoder(architecture, rows, &options, |_| ControlFlow::Continue(())).unwrap().network
}

/// A detector that hands each window of one channel to the model as it is.
fn detector(model: Model, width: usize) -> DetectorFile {
    compile(&DetectorSpec {
        name: "oracle".into(),
        rate_hz: 1.0,
        window_len: width,
        stride: width,
        channels: vec![ChannelSpec {
            name: "x".into(),
            unit: String::new(),
            minimum: -1e6,
            maximum: 1e6,
        }],
        features: vec![Feature { kind: FeatureKind::Samples, channel: 0, parameter: 1 }],
        scaler: vec![ScalerEntry { offset: 0.0, gain: 1.0 }; width],
        gains: Vec::new(),
        traces: Vec::new(),
        model,
        score_rule: ScoreRule::MeanSquared,
        smoothing: 1,
        decision_rule: DecisionRule {
            threshold: 1.0,
            clear_level: 0.5,
            raise_count: 1,
            raise_of: 1,
            clear_count: 1,
        },
        provenance: "{}".into(),
    })
    .unwrap()
}

/// Reconstructs each row in our runtime, through window, features and scaler.
fn reconstruct(file: &DetectorFile, rows: &[f32], width: usize) -> Vec<f32> {
    let detector = file.detector();
    let mut memory = vec![0; detector.memory_words()];
    let mut pipeline = Pipeline::new(&detector, &mut memory).unwrap();
    let mut outputs = Vec::new();
    for sample in rows {
        if pipeline.push(&[*sample]).unwrap().is_some() {
            outputs.extend((0..width).map(|index| pipeline.reconstruction(index).unwrap()));
        }
    }
    outputs
}

/// A folder of a test, which goes when the test is done.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("oracles-{name}"));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left over lies in the target folder and does no harm.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The raw outputs of TensorFlow Lite Micro and of LiteRT.
fn interpret(name: &str, model: &[u8], inputs: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let python = std::env::var_os("STONECHAT_PYTHON")
        .expect("STONECHAT_PYTHON names no Python: run `cargo xtask test --only oracles`");
    let folder = Folder::new(name);
    let outputs = [folder.0.join("tflm"), folder.0.join("litert")];
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/oracles/run_tflite.py");
    let run = Command::new(python)
        .arg(script)
        .arg(folder.write("model.tflite", model))
        .arg(folder.write("inputs", inputs))
        .args(&outputs)
        .output()
        .unwrap();
    let messages = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "{name}: {messages}");
    let [tflm, litert] = outputs.map(|path| std::fs::read(path).unwrap());
    (tflm, litert)
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    let four = |bytes: &[u8]| f32::from_le_bytes(bytes.try_into().unwrap());
    bytes.chunks_exact(4).map(four).collect()
}

fn check_float(name: &str, architecture: &Architecture) {
    let width = architecture.widths[0];
    let network = fitted(architecture, &rows(3_000, width, 1));
    let inputs = rows(VECTORS, width, 2);
    let bytes: Vec<u8> = inputs.iter().flat_map(|x| x.to_le_bytes()).collect();
    let (tflm, litert) = interpret(name, &tflite_float(&network).unwrap(), &bytes);
    let ours = reconstruct(&detector(Model::dense(&network).unwrap(), width), &inputs, width);
    assert_eq!(ours.len(), inputs.len());
    compare_floats(name, &ours, &tflm, &litert);
}

fn compare_floats(name: &str, ours: &[f32], tflm: &[u8], litert: &[u8]) {
    for (engine, theirs) in [("TFLM", floats(tflm)), ("LiteRT", floats(litert))] {
        assert_eq!(theirs.len(), ours.len(), "{name}, {engine}");
        let differences = ours.iter().zip(&theirs).map(|(a, b)| (a - b).abs());
        let largest = differences.fold(0.0, f32::max);
        assert!(largest <= FLOAT_TOLERANCE, "{name}, {engine}: off by {largest}");
        // The networks must say something: a constant output would agree too easily.
        let varied = theirs.iter().any(|value| (value - theirs[0]).abs() > 0.1);
        assert!(varied, "{name}: the outputs hardly vary");
    }
}

#[test]
#[ignore = "needs the oracle Python environment: cargo xtask test --only oracles"]
fn float_files_run_in_tflm_and_litert_as_in_our_runtime() {
    let relu = Architecture::autoencoder(16, &[32, 16, 8]);
    check_float("float-relu", &relu);
    check_float("float-odd", &Architecture::autoencoder(5, &[7, 3]));
    for (name, activation) in
        [("float-tanh", Activation::Tanh), ("float-logistic", Activation::Logistic)]
    {
        let smooth = Architecture { hidden: activation, ..Architecture::autoencoder(12, &[9, 4]) };
        check_float(name, &smooth);
        let bounded = Architecture { output: activation, ..smooth };
        check_float(&format!("{name}-output"), &bounded);
    }
}

fn check_int8(name: &str, architecture: &Architecture, weights: WeightScaling) {
    let width = architecture.widths[0];
    let values = rows(3_000, width, 3);
    let network = fitted(architecture, &values);
    let options = QuantiseOptions { weights, ..QuantiseOptions::default() };
    let quantised = quantise(&network, Rows::new(&values, width).unwrap(), &options).unwrap();
    let model = tflite_int8(&quantised).unwrap();
    let (scale, zero_point) = (quantised.input_scale, quantised.input_zero_point);

    let inputs = int8_inputs(width, scale, zero_point);
    let (tflm, litert) = interpret(name, &model, &unsigned(&inputs));
    let file = detector(Model::dense_int8(&quantised).unwrap(), width);
    let detector = file.detector();
    let Engine::DenseInt8(engine) = detector.engine() else {
        panic!("an int8 network gave another engine");
    };
    let mut memory = vec![0; engine.memory_words()];
    let mut ours = vec![0_i8; inputs.len()];
    for (inputs, outputs) in inputs.chunks(width).zip(ours.chunks_mut(width)) {
        engine.run_quantised(inputs, outputs, &mut memory);
    }
    compare_int8(name, &ours, &tflm, &litert);
}

/// Half of the inputs like the data, half anywhere in the range of int8.
fn int8_inputs(width: usize, scale: f32, zero_point: i32) -> Vec<i8> {
    let mut inputs: Vec<i8> = rows(INT8_VECTORS / 2, width, 4)
        .iter()
        .map(|x| ((x / scale).round() as i32 + zero_point).clamp(-128, 127) as i8)
        .collect();
    let mut random = Random::new(5);
    inputs.extend((0..INT8_VECTORS / 2 * width).map(|_| random.below(256) as u8 as i8));
    inputs
}

fn unsigned(inputs: &[i8]) -> Vec<u8> {
    inputs.iter().map(|x| x.cast_unsigned()).collect()
}

fn compare_int8(name: &str, ours: &[i8], tflm: &[u8], litert: &[u8]) {
    let tflm: Vec<i8> = tflm.iter().map(|x| x.cast_signed()).collect();
    let litert: Vec<i8> = litert.iter().map(|x| x.cast_signed()).collect();
    assert_eq!((tflm.len(), litert.len()), (ours.len(), ours.len()));
    let unequal = ours.iter().zip(&tflm).filter(|(a, b)| a != b).count();
    assert_eq!(unequal, 0, "{name}: of {} outputs differ from TFLM", ours.len());
    let steps = ours.iter().zip(&litert);
    let apart = steps.map(|(a, b)| (i32::from(*a) - i32::from(*b)).abs());
    let furthest = apart.max().unwrap();
    assert!(furthest <= LITERT_STEPS, "{name}: {furthest} from LiteRT");
    let different: std::collections::BTreeSet<i8> = tflm.iter().copied().collect();
    assert!(different.len() > 50, "{name}: the outputs hardly vary");
}

#[test]
#[ignore = "needs the oracle Python environment: cargo xtask test --only oracles"]
fn int8_files_run_in_tflm_bit_for_bit_as_in_our_runtime() {
    for (name, weights) in
        [("per-channel", WeightScaling::PerChannel), ("per-tensor", WeightScaling::PerTensor)]
    {
        let bench = Architecture::autoencoder(16, &[32, 16, 8]);
        check_int8(&format!("int8-bench-{name}"), &bench, weights);
        let odd = Architecture::autoencoder(5, &[7, 3]);
        check_int8(&format!("int8-odd-{name}"), &odd, weights);
        let wide = Architecture::autoencoder(96, &[33, 6]);
        check_int8(&format!("int8-wide-{name}"), &wide, weights);
        let one = Architecture::autoencoder(1, &[8]);
        check_int8(&format!("int8-one-{name}"), &one, weights);
        let single = Architecture { widths: vec![4, 4], output: Activation::Relu, ..odd };
        check_int8(&format!("int8-relu-{name}"), &single, weights);
        for (kind, activation) in [("tanh", Activation::Tanh), ("logistic", Activation::Logistic)] {
            let hidden = Architecture { hidden: activation, ..Architecture::autoencoder(12, &[9]) };
            check_int8(&format!("int8-{kind}-{name}"), &hidden, weights);
            let both = Architecture { output: activation, ..hidden };
            check_int8(&format!("int8-{kind}-output-{name}"), &both, weights);
        }
    }
}

fn fitted_convolution(form: &ConvolutionForm, values: &[f32]) -> ConvolutionNetwork {
    let options = FitOptions { epochs: 5, ..FitOptions::default() };
    let rows = Rows::new(values, form.channels * form.len).unwrap();
    let mut progress = |_| ControlFlow::Continue(());
    fit_convolution(form, rows, &options, &mut progress).unwrap().network
}

fn forms() -> Vec<(&'static str, ConvolutionForm)> {
    let form = |channels, len, filters: &[usize], kernel_width| ConvolutionForm {
        channels,
        len,
        filters: filters.to_vec(),
        kernel_width,
    };
    vec![
        ("one-channel", form(1, 32, &[16, 4], 5)),
        ("three-channels-odd", form(3, 13, &[9, 5], 3)),
        ("even-kernel", form(2, 10, &[8], 4)),
        ("wide-kernel", form(1, 7, &[3, 2, 2], 7)),
    ]
}

/// Turns rows of `[channels][length]` into `[length][channels]`, or back with the two exchanged.
fn turned(values: &[f32], channels: usize, len: usize) -> Vec<f32> {
    let row = |row: &[f32]| -> Vec<f32> {
        let numbers = (0..len).flat_map(|place| (0..channels).map(move |c| (place, c)));
        numbers.map(|(place, channel)| row[channel * len + place]).collect()
    };
    values.chunks(channels * len).flat_map(row).collect()
}

#[test]
#[ignore = "needs the oracle Python environment: cargo xtask test --only oracles"]
fn float_convolutions_run_in_tflm_and_litert_as_in_our_runtime() {
    for (name, form) in forms() {
        let width = form.channels * form.len;
        let network = fitted_convolution(&form, &rows(1_000, width, 6));
        let inputs = rows(VECTORS, width, 7);
        let turned_inputs = turned(&inputs, form.channels, form.len);
        let bytes: Vec<u8> = turned_inputs.iter().flat_map(|x| x.to_le_bytes()).collect();
        let model = tflite_convolution_float(&network).unwrap();
        let name = format!("convolution-{name}");
        let (tflm, litert) = interpret(&name, &model, &bytes);
        let file = detector(Model::convolution(&network).unwrap(), width);
        let ours = turned(&reconstruct(&file, &inputs, width), form.channels, form.len);
        compare_floats(&name, &ours, &tflm, &litert);
    }
}

#[test]
#[ignore = "needs the oracle Python environment: cargo xtask test --only oracles"]
fn int8_convolutions_run_in_tflm_bit_for_bit_as_in_our_runtime() {
    for (name, form) in forms() {
        let width = form.channels * form.len;
        let values = rows(1_000, width, 8);
        let network = fitted_convolution(&form, &values);
        let table = Rows::new(&values, width).unwrap();
        let quantised = quantise_convolution(&network, table, Calibration::MinMax).unwrap();
        let inputs = int8_inputs(width, quantised.input_scale, quantised.input_zero_point);
        let model = tflite_convolution_int8(&quantised).unwrap();
        let name = format!("convolution-int8-{name}");
        let (tflm, litert) = interpret(&name, &model, &unsigned(&inputs));
        let file = detector(Model::convolution_int8(&quantised).unwrap(), width);
        let detector = file.detector();
        let Engine::ConvolutionInt8(engine) = detector.engine() else {
            panic!("an int8 network gave another engine");
        };
        let mut memory = vec![0; engine.memory_words()];
        let mut ours = vec![0_i8; inputs.len()];
        for (inputs, outputs) in inputs.chunks(width).zip(ours.chunks_mut(width)) {
            engine.run_quantised(inputs, outputs, &mut memory);
        }
        compare_int8(&name, &ours, &tflm, &litert);
    }
}

/// Compiles two sources that include the header, runs them, and compares what they see.
fn compile_and_run(compiler: &str, standard: &str, extension: &str) {
    let folder =
        std::env::temp_dir().join(format!("stonechat-c-header-{}-{standard}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let bytes: Vec<u8> = (0..1000_u32).map(|i| (i * i % 251) as u8).collect();
    std::fs::write(folder.join("m.h"), c_header("fan.tflite", &bytes).unwrap()).unwrap();
    let main = "#include \"m.h\"\n#include \"m.h\"\n#include <stdint.h>\n#include <stdio.h>\n\
                unsigned int other(void);\n\
                int main(void) {\n  unsigned int i, sum = 0;\n\
                for (i = 0; i < fan_tflite_len; i++) sum = sum * 31u + fan_tflite[i];\n\
                printf(\"%u %u %u %u\", sum, fan_tflite_len, (unsigned)((uintptr_t)fan_tflite % 16u), other());\n\
                return (int)(sizeof fan_tflite - fan_tflite_len);\n}\n";
    let other = "#include \"m.h\"\nunsigned int other(void);\n\
                 unsigned int other(void) { return fan_tflite_len + fan_tflite[0]; }\n";
    let sources = [format!("main.{extension}"), format!("other.{extension}")];
    std::fs::write(folder.join(&sources[0]), main).unwrap();
    std::fs::write(folder.join(&sources[1]), other).unwrap();
    let built = Command::new(compiler)
        .current_dir(&folder)
        .args(["-Wall", "-Wextra", "-Werror", "-pedantic", "-o", "m"])
        .arg(format!("-std={standard}"))
        .args(&sources)
        .output()
        .unwrap();
    let messages = String::from_utf8_lossy(&built.stderr).into_owned();
    assert!(built.status.success(), "{compiler} {standard}: {messages}");
    let run = Command::new(folder.join("m")).output().unwrap();
    let add = |sum: u32, byte: &u8| sum.wrapping_mul(31).wrapping_add(u32::from(*byte));
    let sum = bytes.iter().fold(0_u32, add);
    assert_eq!(String::from_utf8_lossy(&run.stdout), format!("{sum} 1000 0 1000"));
    assert!(run.status.success());
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
#[ignore = "needs the compilers `cc` and `c++`: cargo xtask test --only oracles"]
fn compilers_accept_the_header() {
    for standard in ["c99", "c11", "c17"] {
        compile_and_run("cc", standard, "c");
    }
    for standard in ["c++11", "c++17"] {
        compile_and_run("c++", standard, "cc");
    }
}

#[test]
#[ignore = "needs the oracle Python environment: cargo xtask test --only oracles"]
fn the_committed_metrics_equal_those_of_scikit_learn() {
    let python = std::env::var_os("STONECHAT_PYTHON")
        .expect("STONECHAT_PYTHON names no Python: run `cargo xtask test --only oracles`");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/make/metrics.py");
    let run = Command::new(python).arg(script).arg("--check").output().unwrap();
    let said = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success(), "{said}{}", String::from_utf8_lossy(&run.stderr));
}
