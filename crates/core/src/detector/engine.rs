//! Every engine behind one shape: load, memory, start, run.

use super::{
    Convolution, ConvolutionInt8, Dense, DenseInt8, IsolationForest, Learner, LoadError,
    Mahalanobis, Neighbour, OneClass, Pca, RandomForest, Recurrent, RecurrentInt8, RobustZScore,
    Work, ZScore,
};

/// The number of an engine in the detector file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
#[non_exhaustive]
pub enum EngineKind {
    /// [`ZScore`].
    ZScore = 1,
    /// [`Dense`].
    Dense = 2,
    /// [`DenseInt8`].
    DenseInt8 = 3,
    /// [`RobustZScore`].
    RobustZScore = 4,
    /// [`Mahalanobis`].
    Mahalanobis = 5,
    /// [`Pca`].
    Pca = 6,
    /// [`Recurrent`].
    Recurrent = 7,
    /// [`RecurrentInt8`].
    RecurrentInt8 = 8,
    /// [`Convolution`].
    Convolution = 9,
    /// [`ConvolutionInt8`].
    ConvolutionInt8 = 10,
    /// [`RandomForest`].
    RandomForest = 11,
    /// [`IsolationForest`].
    IsolationForest = 12,
    /// [`OneClass`].
    OneClass = 13,
    /// [`Learner`].
    Learner = 14,
    /// [`Neighbour`].
    Neighbour = 15,
}

impl EngineKind {
    /// Returns the name that people see.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ZScore => "z-score",
            Self::Dense => "dense autoencoder, float32",
            Self::DenseInt8 => "dense autoencoder, int8",
            Self::RobustZScore => "robust z-score",
            Self::Mahalanobis => "Mahalanobis distance",
            Self::Pca => "principal components",
            Self::Recurrent => "recurrent network, float32",
            Self::RecurrentInt8 => "recurrent network, int8",
            Self::Convolution => "convolutional autoencoder, float32",
            Self::ConvolutionInt8 => "convolutional autoencoder, int8",
            Self::RandomForest => "random forest",
            Self::IsolationForest => "isolation forest",
            Self::OneClass => "one-class SVM",
            Self::Learner => "online learner",
            Self::Neighbour => "nearest neighbour",
        }
    }

    /// Tells whether the engine gives a score of its own; the others give residuals.
    #[must_use]
    pub fn gives_score(self) -> bool {
        matches!(self, Self::RandomForest | Self::IsolationForest | Self::OneClass | Self::Learner)
    }
}

/// What an engine made of a feature vector.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Outcome {
    /// The vector holds residuals now, in scaled units, for the score rule.
    Residuals,
    /// The engine's own score; the vector is as it was.
    Score(f32),
    /// Nothing yet: the engine needs more vectors.
    Pending,
}

/// The part of a detector that turns a scaled feature vector into residuals or a score.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Engine<'d> {
    /// Running mean and deviation.
    ZScore(ZScore<'d>),
    /// Dense layers in single precision.
    Dense(Dense<'d>),
    /// Dense layers in int8.
    DenseInt8(DenseInt8<'d>),
    /// Running median and absolute deviation.
    RobustZScore(RobustZScore<'d>),
    /// Distance in units of the covariance of normal data.
    Mahalanobis(Mahalanobis<'d>),
    /// Residual of the principal components.
    Pca(Pca<'d>),
    /// LSTM or GRU in single precision.
    Recurrent(Recurrent<'d>),
    /// LSTM or GRU in int8.
    RecurrentInt8(RecurrentInt8<'d>),
    /// Convolution layers in single precision.
    Convolution(Convolution<'d>),
    /// Convolution layers in int8.
    ConvolutionInt8(ConvolutionInt8<'d>),
    /// A vote of classification trees.
    RandomForest(RandomForest<'d>),
    /// Mean depth at which random trees isolate a vector.
    IsolationForest(IsolationForest<'d>),
    /// A hyperplane over random features.
    OneClass(OneClass<'d>),
    /// A model that keeps learning on the device.
    Learner(Learner<'d>),
    /// Distance to the nearest stored vector.
    Neighbour(Neighbour<'d>),
}

/// Does the same with whichever engine it is.
macro_rules! each {
    ($engine:expr, $inner:ident => $call:expr) => {
        match $engine {
            Engine::ZScore($inner) => $call,
            Engine::Dense($inner) => $call,
            Engine::DenseInt8($inner) => $call,
            Engine::RobustZScore($inner) => $call,
            Engine::Mahalanobis($inner) => $call,
            Engine::Pca($inner) => $call,
            Engine::Recurrent($inner) => $call,
            Engine::RecurrentInt8($inner) => $call,
            Engine::Convolution($inner) => $call,
            Engine::ConvolutionInt8($inner) => $call,
            Engine::RandomForest($inner) => $call,
            Engine::IsolationForest($inner) => $call,
            Engine::OneClass($inner) => $call,
            Engine::Learner($inner) => $call,
            Engine::Neighbour($inner) => $call,
        }
    };
}

impl<'d> Engine<'d> {
    /// Checks the model of the engine with a number of the detector file.
    pub(super) fn load(number: u16, model: &'d [u8], vector_len: usize) -> Result<Self, LoadError> {
        Ok(match number {
            1 => Self::ZScore(ZScore::load(model, vector_len)?),
            2 => Self::Dense(Dense::load(model, vector_len)?),
            3 => Self::DenseInt8(DenseInt8::load(model, vector_len)?),
            4 => Self::RobustZScore(RobustZScore::load(model, vector_len)?),
            5 => Self::Mahalanobis(Mahalanobis::load(model, vector_len)?),
            6 => Self::Pca(Pca::load(model, vector_len)?),
            7 => Self::Recurrent(Recurrent::load(model, vector_len)?),
            8 => Self::RecurrentInt8(RecurrentInt8::load(model, vector_len)?),
            9 => Self::Convolution(Convolution::load(model, vector_len)?),
            10 => Self::ConvolutionInt8(ConvolutionInt8::load(model, vector_len)?),
            11 => Self::RandomForest(RandomForest::load(model, vector_len)?),
            12 => Self::IsolationForest(IsolationForest::load(model, vector_len)?),
            13 => Self::OneClass(OneClass::load(model, vector_len)?),
            14 => Self::Learner(Learner::load(model, vector_len)?),
            15 => Self::Neighbour(Neighbour::load(model, vector_len)?),
            _ => return Err(LoadError::Engine),
        })
    }

    /// Returns which engine it is.
    #[must_use]
    pub fn kind(&self) -> EngineKind {
        match self {
            Self::ZScore(_) => EngineKind::ZScore,
            Self::Dense(_) => EngineKind::Dense,
            Self::DenseInt8(_) => EngineKind::DenseInt8,
            Self::RobustZScore(_) => EngineKind::RobustZScore,
            Self::Mahalanobis(_) => EngineKind::Mahalanobis,
            Self::Pca(_) => EngineKind::Pca,
            Self::Recurrent(_) => EngineKind::Recurrent,
            Self::RecurrentInt8(_) => EngineKind::RecurrentInt8,
            Self::Convolution(_) => EngineKind::Convolution,
            Self::ConvolutionInt8(_) => EngineKind::ConvolutionInt8,
            Self::RandomForest(_) => EngineKind::RandomForest,
            Self::IsolationForest(_) => EngineKind::IsolationForest,
            Self::OneClass(_) => EngineKind::OneClass,
            Self::Learner(_) => EngineKind::Learner,
            Self::Neighbour(_) => EngineKind::Neighbour,
        }
    }

    /// Returns how many vectors a result rests on, and after how many more it comes.
    pub(super) fn history(&self) -> (usize, usize) {
        match self {
            Self::Recurrent(engine) => engine.history(),
            Self::RecurrentInt8(engine) => engine.history(),
            _ => (1, 0),
        }
    }

    /// Returns the words of memory that the engine needs beside the vectors.
    pub(super) fn memory_words(&self) -> usize {
        each!(self, engine => engine.memory_words())
    }

    /// Counts what a run computes on average.
    #[must_use]
    pub fn work(&self) -> Work {
        each!(self, engine => engine.work())
    }

    /// Brings memory that is all zero into the state before the first vector.
    pub(crate) fn start(&self, memory: &mut [f32]) {
        each!(self, engine => engine.start(memory));
    }

    /// Takes in a scaled feature vector.
    pub(crate) fn run(
        &self,
        vector: &mut [f32],
        reconstruction: &mut [f32],
        memory: &mut [f32],
    ) -> Outcome {
        each!(self, engine => engine.run(vector, reconstruction, memory))
    }

    /// Returns the scaled vector that the last reconstruction belongs to, where that is not the last
    /// one that came in.
    pub(crate) fn source<'m>(&self, memory: &'m [f32]) -> Option<&'m [f32]> {
        match self {
            Self::Recurrent(engine) => Some(engine.source(memory)),
            Self::RecurrentInt8(engine) => Some(engine.source(memory)),
            _ => None,
        }
    }

    /// Forgets what belongs to a run of vectors without a gap; what was learned stays.
    pub(crate) fn reset(&self, memory: &mut [f32]) {
        match self {
            Self::Recurrent(_) | Self::RecurrentInt8(_) => {
                memory.fill(0.0);
                self.start(memory);
            }
            _ => {}
        }
    }
}
