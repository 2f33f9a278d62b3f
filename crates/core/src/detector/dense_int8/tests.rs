extern crate std;

use std::vec::Vec;

use super::*;

/// Steele and Vigna's SplitMix64 (2014), to draw numbers from a seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn int8(&mut self) -> i8 {
        self.next() as i8
    }

    /// Any magnitude as likely as any other.
    fn int32(&mut self) -> i32 {
        (self.next() as i32) >> (self.next() % 32)
    }
}

/// The multiplication as TensorFlow Lite and gemmlowp write it, step by step.
fn reference_multiply(x: i32, factor: Requantisation) -> i32 {
    let shifted = x.wrapping_shl(factor.shift.max(0) as u32);
    let product = i64::from(shifted) * i64::from(factor.multiplier);
    let nudge = if product >= 0 { 1_i64 << 30 } else { 1 - (1_i64 << 30) };
    let high = ((product + nudge) / (1_i64 << 31)) as i32;
    let exponent = (-factor.shift).max(0) as u32;
    let mask = ((1_i64 << exponent) - 1) as i32;
    let threshold = (mask >> 1) + i32::from(high < 0);
    (high >> exponent) + i32::from((high & mask) > threshold)
}

#[test]
fn multiplication_rounds_as_gemmlowp_does() {
    let mut random = Random(1);
    let edges = [0, 1, -1, 2, -2, 3, -3, i32::MIN, i32::MIN + 1, i32::MAX, i32::MAX - 1];
    let multipliers = [0, 1 << 30, (1 << 30) + 1, i32::MAX, i32::MAX - 1];
    for shift in -31..=30 {
        for x in edges {
            for multiplier in multipliers {
                let factor = Requantisation { multiplier, shift };
                let found = multiply_by_quantised_multiplier(x, factor);
                assert_eq!(found, reference_multiply(x, factor), "{x} times {factor:?}");
            }
        }
        for _ in 0..20_000 {
            let multiplier = ((1 << 30) + (random.next() as u32 >> 2)) as i32;
            let factor = Requantisation { multiplier, shift };
            let x = random.int32();
            // At and before a multiple of a step, too, where the rounding is decided.
            let low = ((1_i64 << (-shift).max(0)) - 1) as i32;
            for x in [x, x & !low, x | low] {
                let found = multiply_by_quantised_multiplier(x, factor);
                assert_eq!(found, reference_multiply(x, factor), "{x} times {factor:?}");
            }
        }
    }
}

#[test]
fn a_layer_of_any_shape_is_the_plain_sum_of_products() {
    let mut random = Random(2);
    for (inputs, outputs) in
        (1..=20).flat_map(|inputs| (1..=20).map(move |outputs| (inputs, outputs)))
    {
        let rows: Vec<Vec<i8>> =
            (0..outputs).map(|_| (0..inputs).map(|_| random.int8()).collect()).collect();
        let mut weights = std::vec![0; inputs * outputs];
        for (output, row) in rows.iter().enumerate() {
            for (input, weight) in row.iter().enumerate() {
                weights[weight_index(inputs, outputs, output, input)] = *weight;
            }
        }
        let bias: Vec<i32> = (0..outputs).map(|_| random.next() as i16 as i32).collect();
        let factors: Vec<Requantisation> = (0..outputs)
            .map(|_| Requantisation {
                multiplier: ((1 << 30) + (random.next() as u32 >> 2)) as i32,
                shift: -8 + (random.next() % 10) as i32,
            })
            .collect();
        let entry = DenseLayerEntry {
            inputs: inputs as u32,
            outputs: outputs as u32,
            output_zero_point: i32::from(random.int8()),
            output_minimum: -100,
            output_maximum: 127,
            ..bytemuck::Zeroable::zeroed()
        };
        let numbers = Int8Layer {
            entry: &entry,
            weights: &weights,
            bias: &bias,
            requantisation: &factors,
            table: &[],
        };
        let from: Vec<i8> = (0..inputs).map(|_| random.int8()).collect();
        // One more than there are outputs: what lies behind them is left alone.
        let mut found = std::vec![55; outputs + 1];
        layer(&from, &numbers, &mut found);
        let expected = (0..outputs).map(|output| {
            let products = rows[output].iter().zip(&from);
            let sum: i32 = products.map(|(w, x)| i32::from(*w) * i32::from(*x)).sum();
            let scaled = reference_multiply(sum + bias[output], factors[output]);
            (scaled + entry.output_zero_point).clamp(-100, 127) as i8
        });
        let expected: Vec<i8> = expected.chain([55]).collect();
        assert_eq!(found, expected, "{inputs} inputs, {outputs} outputs");
        for (output, row) in rows.iter().enumerate() {
            assert_eq!(&numbers.row(output).collect::<Vec<_>>(), row);
        }
    }
}
