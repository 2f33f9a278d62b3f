//! The chip's answer, line by line, as text over a serial line.
//!
//! ```text
//! block INDEX WINDOWS DIGEST          every block of windows, the last may be short
//! total WINDOWS FAULTS ANOMALIES DIGEST
//! count STAGE CALLS LEAST MOST SUM    instructions
//! memory PART BYTES
//! error TEXT
//! end
//! ```
//! Numbers are decimal, digests hexadecimal. A report without `end` is not whole.

use core::fmt;

/// One line of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// The digest of one block of windows.
    Block(Block),
    /// What the whole job came to.
    Total(Total),
    /// Instructions of one stage.
    Count(Stage, Count),
    /// Memory of one part in bytes.
    Memory(Part, u32),
    /// The job could not be run.
    Error(&'a str),
    /// The report is whole.
    End,
}

/// The digest of one block of windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// Position among the blocks, from 0.
    pub index: u32,
    /// Windows in it.
    pub windows: u32,
    /// Digest over their features, scores and verdicts.
    pub digest: u64,
}

/// What the whole job came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Total {
    /// Windows that were scored.
    pub windows: u32,
    /// Samples that were rejected.
    pub faults: u32,
    /// Windows whose verdict was "anomaly".
    pub anomalies: u32,
    /// Digest over everything.
    pub digest: u64,
}

/// Instructions of many calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    /// Calls measured.
    pub calls: u32,
    /// The cheapest call.
    pub least: u32,
    /// The dearest call.
    pub most: u32,
    /// All calls together.
    pub sum: u64,
}

impl Default for Count {
    fn default() -> Self {
        Self { calls: 0, least: u32::MAX, most: 0, sum: 0 }
    }
}

impl Count {
    /// Takes in one call.
    pub fn add(&mut self, instructions: u32) {
        self.calls += 1;
        self.least = self.least.min(instructions);
        self.most = self.most.max(instructions);
        self.sum += u64::from(instructions);
    }

    /// The mean of all calls; 0 without any.
    #[must_use]
    pub fn mean(&self) -> f64 {
        if self.calls == 0 {
            return 0.0;
        }
        self.sum as f64 / f64::from(self.calls)
    }
}

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$item:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum $name { $($(#[$item])* $variant,)* }

        impl $name {
            /// The word of the report.
            #[must_use]
            pub fn word(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }

            fn parse(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$variant),)* _ => None }
            }
        }
    };
}

words! {
    /// What instructions are counted of.
    Stage {
        /// A sample that completes no window.
        Sample = "sample",
        /// A sample that completes a window, all stages together.
        Window = "window",
        /// Features of a window.
        Features = "features",
        /// Scaler, engine and score rule.
        Score = "score",
        /// A network alone, from int8 to int8, as interpreters run it.
        Engine = "engine",
        /// The decision.
        Decision = "decision",
        /// Checking the detector file once.
        Load = "load",
    }
}

words! {
    /// What takes memory.
    Part {
        /// The detector file.
        Detector = "detector",
        /// The working memory that the detector asks for.
        Workspace = "workspace",
        /// The pipeline's own state.
        State = "state",
        /// High-water mark of the stack, from taking in a sample to the verdict.
        Stack = "stack",
    }
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Block(block) => {
                write!(f, "block {} {} {:016x}", block.index, block.windows, block.digest)
            }
            Self::Total(total) => write!(
                f,
                "total {} {} {} {:016x}",
                total.windows, total.faults, total.anomalies, total.digest
            ),
            Self::Count(stage, count) => write!(
                f,
                "count {} {} {} {} {}",
                stage.word(),
                count.calls,
                count.least,
                count.most,
                count.sum
            ),
            Self::Memory(part, bytes) => write!(f, "memory {} {bytes}", part.word()),
            Self::Error(text) => write!(f, "error {text}"),
            Self::End => f.write_str("end"),
        }
    }
}

impl<'a> Line<'a> {
    /// Reads one line, without its line break; `None` for anything else.
    #[must_use]
    pub fn parse(line: &'a str) -> Option<Self> {
        if let Some(text) = line.strip_prefix("error ") {
            return Some(Self::Error(text));
        }
        let mut words = line.split(' ');
        let kind = words.next()?;
        let line = match kind {
            "block" => Self::Block(Block {
                index: words.next()?.parse().ok()?,
                windows: words.next()?.parse().ok()?,
                digest: u64::from_str_radix(words.next()?, 16).ok()?,
            }),
            "total" => Self::Total(Total {
                windows: words.next()?.parse().ok()?,
                faults: words.next()?.parse().ok()?,
                anomalies: words.next()?.parse().ok()?,
                digest: u64::from_str_radix(words.next()?, 16).ok()?,
            }),
            "count" => Self::Count(
                Stage::parse(words.next()?)?,
                Count {
                    calls: words.next()?.parse().ok()?,
                    least: words.next()?.parse().ok()?,
                    most: words.next()?.parse().ok()?,
                    sum: words.next()?.parse().ok()?,
                },
            ),
            "memory" => Self::Memory(Part::parse(words.next()?)?, words.next()?.parse().ok()?),
            "end" => Self::End,
            _ => return None,
        };
        words.next().is_none().then_some(line)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::string::ToString;

    use super::*;

    #[test]
    fn every_line_reads_back() {
        let count = Count { calls: 3, least: 1, most: u32::MAX, sum: u64::MAX };
        let lines = [
            Line::Block(Block { index: 0, windows: 100, digest: 7 }),
            Line::Total(Total { windows: 1, faults: 2, anomalies: 3, digest: u64::MAX }),
            Line::Count(Stage::Score, count),
            Line::Memory(Part::Stack, 308),
            Line::Error("the job is cut short"),
            Line::End,
        ];
        for line in lines {
            let text = line.to_string();
            assert_eq!(Line::parse(&text), Some(line), "{text}");
        }
    }

    #[test]
    fn other_text_is_no_line() {
        for text in
            ["", "block 1", "total 1 2 3 x", "end 1", "count nothing 1 2 3 4", "memory stack -1"]
        {
            assert_eq!(Line::parse(text), None, "{text}");
        }
    }
}
