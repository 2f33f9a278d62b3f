//! What the host asks a chip to run and what the chip answers.
//!
//! The same code runs on both sides, so that "equal bit for bit" compares the
//! detector and not two ways of measuring it:
//!
//! 1. [`format`] is the job as the host lays it into the chip's memory.
//! 2. [`digest`] condenses the bits of features, scores and verdicts.
//! 3. [`run`] drives a detector over the job's samples.
//! 4. [`report`] is the chip's answer, line by line.

#![no_std]

pub mod digest;
pub mod format;
pub mod limits;
pub mod report;
pub mod run;
