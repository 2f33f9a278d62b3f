//! The layout of a recurrent model, float or int8: checked once, so that running it needs no checks
//! that can fail.

use bytemuck::from_bytes;

use crate::detector::dense::Activation;
use crate::detector::format::DenseLayerEntry;
use crate::detector::format::recurrent::{RecurrentHeader, RecurrentLayerEntry};
use crate::detector::{LoadError, array};
use crate::limits::{
    LAYER_WIDTH_MAX, RECURRENT_LANES_MAX, RECURRENT_LAYERS_MAX, RECURRENT_STEPS_MAX,
};

/// How a recurrent network meets a stream of vectors; numbers are those of the detector file.
///
/// There is no form that carries state through an autoencoder, see
/// [`format::recurrent`](crate::detector::format::recurrent).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
#[non_exhaustive]
pub enum RecurrentForm {
    /// An autoencoder over windows. Each window is encoded step by step as its vectors come in and
    /// decoded step by step while the next ones do, so that every vector costs the same; the verdict
    /// comes one window later and equals that of the whole window at once. State starts at zero
    /// with each window. Windows that start a hop apart each have their lane.
    Staggered = 1,
    /// A forecaster of the next vector, trained on long sequences with carried state, which it keeps
    /// until there is a gap. Nothing counts before it has seen a window's vectors.
    Stateful = 2,
}

impl RecurrentForm {
    /// Returns the form with a number of the detector file.
    #[must_use]
    pub fn from_number(number: u16) -> Option<Self> {
        [Self::Staggered, Self::Stateful].into_iter().find(|form| *form as u16 == number)
    }
}

/// The cell of a recurrent layer; numbers are those of the detector file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
#[non_exhaustive]
pub enum RecurrentCell {
    /// Long short-term memory.
    Lstm = 1,
    /// Gated recurrent unit.
    Gru = 2,
}

impl RecurrentCell {
    /// Returns the cell with a number of the detector file.
    #[must_use]
    pub fn from_number(number: u16) -> Option<Self> {
        [Self::Lstm, Self::Gru].into_iter().find(|cell| *cell as u16 == number)
    }

    /// Returns how many gates a unit has.
    #[must_use]
    pub const fn gates(self) -> usize {
        match self {
            Self::Lstm => 4,
            Self::Gru => 3,
        }
    }

    /// Returns the numbers of a layer's state in single precision: its outputs, then its cells.
    pub(super) fn float_state_len(self, units: usize) -> usize {
        match self {
            Self::Lstm => 2 * units,
            Self::Gru => units,
        }
    }
}

/// A recurrent model, checked but for the arrays of its layers.
#[derive(Clone, Copy, Debug)]
pub(in crate::detector) struct Layout<'d> {
    pub(in crate::detector) header: &'d RecurrentHeader,
    pub(in crate::detector) form: RecurrentForm,
    pub(in crate::detector) cell: RecurrentCell,
    pub(in crate::detector) steps: usize,
    pub(in crate::detector) hop: usize,
    pub(in crate::detector) vector_len: usize,
    pub(in crate::detector) encoder: &'d [RecurrentLayerEntry],
    pub(in crate::detector) decoder: &'d [RecurrentLayerEntry],
    pub(in crate::detector) output: &'d DenseLayerEntry,
    pub(in crate::detector) model: &'d [u8],
}

impl<'d> Layout<'d> {
    pub(in crate::detector) fn load(model: &'d [u8], vector_len: usize) -> Result<Self, LoadError> {
        let header_len = size_of::<RecurrentHeader>();
        let header: &RecurrentHeader = from_bytes(array::<u8>(model, 0, header_len)?);
        let form = RecurrentForm::from_number(header.form).ok_or(LoadError::Model)?;
        let cell = RecurrentCell::from_number(header.cell).ok_or(LoadError::Model)?;
        let (steps, hop) = (header.steps as usize, header.hop as usize);
        let (encoder_count, decoder_count) =
            (header.encoder_count as usize, header.decoder_count as usize);
        let window_is_legal =
            (1..=RECURRENT_STEPS_MAX).contains(&steps) && (1..=RECURRENT_STEPS_MAX).contains(&hop);
        let stream_is_legal = match form {
            RecurrentForm::Staggered => {
                hop > 0
                    && steps.is_multiple_of(hop)
                    && steps / hop <= RECURRENT_LANES_MAX
                    && (1..=RECURRENT_LAYERS_MAX).contains(&decoder_count)
            }
            RecurrentForm::Stateful => decoder_count == 0,
        };
        if !window_is_legal
            || !stream_is_legal
            || !(1..=RECURRENT_LAYERS_MAX).contains(&encoder_count)
        {
            return Err(LoadError::Model);
        }
        let entries: &[RecurrentLayerEntry] =
            array(model, header_len as u32, encoder_count + decoder_count)?;
        let output_offset = header_len + size_of_val(entries);
        let output: &[DenseLayerEntry] = array(model, output_offset as u32, 1)?;
        let [output] = output else { return Err(LoadError::Model) };
        check_widths(entries, output, vector_len)?;
        let (encoder, decoder) = entries.split_at(encoder_count);
        Ok(Self { header, form, cell, steps, hop, vector_len, encoder, decoder, output, model })
    }

    /// Returns how many windows are under way at once.
    pub(in crate::detector) fn lanes(&self) -> usize {
        match self.form {
            RecurrentForm::Staggered => self.steps / self.hop,
            RecurrentForm::Stateful => 1,
        }
    }

    /// Returns how many vectors a result speaks of, and after how many more it comes.
    pub(in crate::detector) fn history(&self) -> (usize, usize) {
        match self.form {
            RecurrentForm::Staggered => (self.steps, self.steps),
            RecurrentForm::Stateful => (self.hop, 0),
        }
    }

    /// Returns the units of the widest layer.
    pub(in crate::detector) fn units_max(&self) -> usize {
        let entries = self.encoder.iter().chain(self.decoder);
        entries.map(|entry| entry.units as usize).max().unwrap_or(0)
    }

    /// Returns the units of the encoder's last layer.
    pub(in crate::detector) fn code_units(&self) -> usize {
        self.encoder.last().map_or(0, |entry| entry.units as usize)
    }
}

/// Checks that widths follow one another from `vector_len` to `vector_len`.
fn check_widths(
    entries: &[RecurrentLayerEntry],
    output: &DenseLayerEntry,
    vector_len: usize,
) -> Result<(), LoadError> {
    let mut width = vector_len;
    let legal = 1..=LAYER_WIDTH_MAX;
    for entry in entries {
        if entry.inputs as usize != width
            || !legal.contains(&width)
            || !legal.contains(&(entry.units as usize))
        {
            return Err(LoadError::Model);
        }
        width = entry.units as usize;
    }
    let fits = output.inputs as usize == width && output.outputs as usize == vector_len;
    if fits && Activation::from_number(output.activation).is_some() {
        Ok(())
    } else {
        Err(LoadError::Model)
    }
}
