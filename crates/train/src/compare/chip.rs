//! Chips and what a detector may take of them.

use core::str::FromStr;

use serde::Serialize;
use thiserror::Error;

use crate::cost::Cost;

/// What a chip leaves to a detector beside radio, drivers and application.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Budget {
    /// The chip's name, or `custom`.
    pub chip: String,
    /// Bytes of flash for the detector file.
    pub flash_bytes: u64,
    /// Bytes of RAM.
    pub ram_bytes: u64,
    /// Instructions a second.
    pub instructions_per_s: f64,
}

/// Name, flash, RAM and instructions a second. ESP32-C3 and C6: a detector slot of their 4 MB partition
/// table, and half of what 160 MHz give at one instruction a cycle, so that radio and flash waits have
/// the other half. The others: an eighth of the flash or RAM that the part has, half of its clock.
const CHIPS: [(&str, u64, u64, f64); 5] = [
    ("esp32c3", 480 * 1024, 64 * 1024, 80.0e6),
    ("esp32c6", 480 * 1024, 96 * 1024, 80.0e6),
    ("rp2040", 256 * 1024, 64 * 1024, 66.0e6),
    ("nrf52840", 128 * 1024, 32 * 1024, 32.0e6),
    ("stm32f103", 16 * 1024, 4 * 1024, 36.0e6),
];

/// A budget's spelling is not understood.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error(
    "there is no chip `{text}`; there are {}, or write flash=BYTES,ram=BYTES,rate=INSTRUCTIONS such as flash=64k,ram=8k,rate=20M",
    CHIPS.map(|chip| chip.0).join(", ")
)]
pub struct BudgetError {
    text: String,
}

impl FromStr for Budget {
    type Err = BudgetError;

    fn from_str(text: &str) -> Result<Self, BudgetError> {
        let chip = CHIPS.into_iter().find(|chip| chip.0 == text);
        if let Some((name, flash_bytes, ram_bytes, instructions_per_s)) = chip {
            return Ok(Self { chip: name.to_owned(), flash_bytes, ram_bytes, instructions_per_s });
        }
        let error = || BudgetError { text: text.to_owned() };
        let mut parts = [None; 3];
        for part in text.split(',') {
            let (name, value) = part.split_once('=').ok_or_else(error)?;
            let index = ["flash", "ram", "rate"].iter().position(|known| *known == name);
            parts[index.ok_or_else(error)?] = Some(amount(value).ok_or_else(error)?);
        }
        let [Some(flash), Some(ram), Some(rate)] = parts else { return Err(error()) };
        Ok(Self {
            chip: "custom".to_owned(),
            flash_bytes: flash as u64,
            ram_bytes: ram as u64,
            instructions_per_s: rate,
        })
    }
}

/// Reads a number with k (1,024) or M (1,000,000) behind it.
fn amount(text: &str) -> Option<f64> {
    let (number, factor) = match text.as_bytes().last()? {
        b'k' => (&text[..text.len() - 1], 1024.0),
        b'M' => (&text[..text.len() - 1], 1.0e6),
        _ => (text, 1.0),
    };
    number.parse::<f64>().ok().map(|number| number * factor).filter(|number| *number > 0.0)
}

impl Budget {
    /// Says what a detector takes too much of; nothing if it fits.
    #[must_use]
    pub fn excess(
        &self,
        flash_bytes: usize,
        ram_bytes: usize,
        cost: &Cost,
        rate_hz: f64,
    ) -> Vec<String> {
        let mut excess = Vec::new();
        if flash_bytes as u64 > self.flash_bytes {
            excess.push(format!("flash {flash_bytes} of {} bytes", self.flash_bytes));
        }
        if ram_bytes as u64 > self.ram_bytes {
            excess.push(format!("RAM {ram_bytes} of {} bytes", self.ram_bytes));
        }
        let wanted = cost.per_sample * rate_hz;
        if wanted > self.instructions_per_s {
            excess.push(format!(
                "{:.1} of {:.1} million instructions a second",
                wanted / 1e6,
                self.instructions_per_s / 1e6
            ));
        }
        excess
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets_are_chips_or_numbers() {
        let custom: Budget = "flash=64k,ram=8k,rate=20M".parse().expect("is legal");
        assert_eq!((custom.flash_bytes, custom.ram_bytes), (65_536, 8_192));
        assert_eq!(custom.instructions_per_s, 20.0e6);
        assert_eq!("esp32c3".parse::<Budget>().expect("is known").chip, "esp32c3");
        for wrong in ["esp33", "flash=1k", "flash=1k,ram=x,rate=1", "flash=0,ram=1,rate=1"] {
            let error = wrong.parse::<Budget>().expect_err("is refused").to_string();
            assert!(error.contains(wrong) && error.contains("esp32c3"), "{error}");
        }
    }

    #[test]
    fn what_is_too_much_is_named() {
        let budget: Budget = "flash=1k,ram=1k,rate=1M".parse().expect("is legal");
        let cost = Cost { per_sample: 100.0, worst_sample: 900.0 };
        assert!(budget.excess(1_024, 1_024, &cost, 10_000.0).is_empty());
        let excess = budget.excess(1_025, 2_000, &cost, 20_000.0);
        assert_eq!(excess.len(), 3, "{excess:?}");
    }
}
