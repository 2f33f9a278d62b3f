//! A recurrent network in single precision, as it is trained and as it is compiled.

use serde::{Deserialize, Serialize};

use crate::network::Layer;

/// How a recurrent network meets a stream of vectors. There is no form that carries state through an
/// autoencoder trained on windows from zero state: its cells saturate on what they never saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// An autoencoder over windows; its steps are spread over the vectors, its state starts anew
    /// with each window.
    Staggered,
    /// A forecaster of the next vector, trained on long sequences with carried state.
    Stateful,
}

/// The cell of a recurrent layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cell {
    /// Long short-term memory (Hochreiter and Schmidhuber 1997, with the forget gate of Gers et al.
    /// 2000); gates in the order input, forget, candidate, output.
    Lstm,
    /// Gated recurrent unit (Cho et al. 2014) with the reset gate after the product; gates in the
    /// order reset, update, candidate.
    Gru,
}

impl Cell {
    /// Returns how many gates a unit has.
    #[must_use]
    pub fn gates(self) -> usize {
        match self {
            Self::Lstm => 4,
            Self::Gru => 3,
        }
    }
}

/// One recurrent layer.
#[derive(Clone, Debug, PartialEq)]
pub struct RecurrentLayer {
    /// Numbers in.
    pub inputs: usize,
    /// Units, and so numbers out.
    pub units: usize,
    /// `[gates * units][inputs]`.
    pub input_weights: Vec<f32>,
    /// `[gates * units][units]`.
    pub recurrent_weights: Vec<f32>,
    /// `[gates * units]`, added to the product with the input.
    pub input_bias: Vec<f32>,
    /// `[gates * units]` added to the product with the state in a [`Cell::Gru`]; empty in a
    /// [`Cell::Lstm`], where one bias says all.
    pub recurrent_bias: Vec<f32>,
}

/// A recurrent network: a stack of layers from vector to code, for [`Form::Staggered`] a stack from
/// the code (repeated each step) back, and a dense layer to the vector.
#[derive(Clone, Debug, PartialEq)]
pub struct RecurrentNetwork {
    /// How it meets a stream.
    pub form: Form,
    /// The cell of every layer.
    pub cell: Cell,
    /// Vectors in a window.
    pub steps: usize,
    /// From the vector on; the last layer's last state is the code of an autoencoder.
    pub encoder: Vec<RecurrentLayer>,
    /// From the code on; empty for a forecaster.
    pub decoder: Vec<RecurrentLayer>,
    /// From the last layer's state to the vector.
    pub output: Layer,
}
