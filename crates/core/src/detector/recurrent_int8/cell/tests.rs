extern crate std;

use std::vec::Vec;

use super::*;
use crate::detector::format::weight_index;
use bytemuck::Zeroable;

#[test]
fn division_by_a_power_is_the_multiplication_by_its_factor() {
    for bits in 15..=30 {
        let factor = Requantisation { multiplier: 1 << 30, shift: 1 - bits };
        for base in (-(1 << 30)..=1 << 30).step_by(999_983) {
            for x in [base, base | ((1 << (bits - 1)) - 1), base & !((1 << (bits - 1)) - 1)] {
                let expected = multiply_by_quantised_multiplier(x, factor);
                assert_eq!(divide_by_power(x, bits as u32), expected, "{x} by 2^{bits}");
            }
        }
    }
}

/// A layer of any shape, run by the kernel and unit by unit with plain sums.
fn check(
    gates: usize,
    [inputs, units]: [usize; 2],
    run: fn(&CellNumbers<'_>, Input<'_>, CellState<'_>),
    unit_of: fn(&RecurrentLayerEntry, [[i32; 2]; 4], &mut i16) -> i8,
) {
    let mut state = (inputs * 37 + units) as u32;
    let mut random = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as i8
    };
    let input: Vec<i8> = (0..inputs).map(|_| random()).collect();
    let before: Vec<i8> = (0..units).map(|_| random()).collect();
    let cells: Vec<i16> = (0..units).map(|_| i16::from(random()) * 200).collect();
    let (mut weights, mut bias, mut factors) = (Vec::new(), Vec::new(), Vec::new());
    // `[units][gates]`, rounded, of input and state.
    let mut products = std::vec![[[0; 2]; 4]; units];
    for (part, from) in [&input, &before].into_iter().enumerate() {
        for gate in 0..gates {
            // One gate of the input has a factor above 1, and sums that leave int16.
            let shift = if part == 0 && gate == 1 { 2 } else { -2 };
            let multiplier = (1 << 30) + (i32::from(random()) << 20).abs();
            let factor = Requantisation { multiplier, shift };
            let mut packed = std::vec![0; units * from.len()];
            for (unit, products) in products.iter_mut().enumerate() {
                let mut sum = i32::from(random()) * 50;
                bias.push(sum);
                for (column, number) in from.iter().enumerate() {
                    let weight = random();
                    packed[weight_index(from.len(), units, unit, column)] = weight;
                    sum += i32::from(weight) * i32::from(*number);
                }
                let rounded = multiply_by_quantised_multiplier(sum, factor);
                products[gate][part] = rounded.clamp(-32_768, 32_767);
            }
            factors.push(factor);
            weights.append(&mut packed);
        }
    }
    let entry = RecurrentLayerEntry {
        inputs: inputs as u32,
        units: units as u32,
        cell_power: -13,
        output_zero_point: 3,
        output_factor: Requantisation {
            multiplier: 1 << 30,
            shift: if gates == 4 { -21 } else { -7 },
        },
        ..Zeroable::zeroed()
    };
    let mut expected_cells = cells.clone();
    let expected: Vec<i8> = products
        .iter()
        .zip(&mut expected_cells)
        .map(|(products, cell)| unit_of(&entry, *products, cell))
        .collect();

    let numbers =
        CellNumbers { entry: &entry, weights: &weights, bias: &bias, requantisation: &factors };
    let mut known = std::vec![0; gates * units];
    round_products(&numbers, &input, &mut known);
    // What the input is, or what its products are, comes to the same.
    for input in [Input::Numbers(&input), Input::Products(&known)] {
        let (mut hidden, mut cells) = (before.clone(), cells.clone());
        let mut products = std::vec![55; PRODUCTS * units];
        let state = CellState { hidden: &mut hidden, cells: &mut cells, products: &mut products };
        run(&numbers, input, state);
        assert_eq!(hidden, expected, "{inputs} inputs, {units} units");
        assert_eq!(cells, expected_cells, "{inputs} inputs, {units} units");
    }
}

fn summed([a, b]: [i32; 2]) -> i16 {
    (a + b).clamp(-32_768, 32_767) as i16
}

#[test]
fn a_layer_of_any_shape_is_its_units_one_by_one() {
    for inputs in 1..=18 {
        for units in 1..=18 {
            check(4, [inputs, units], lstm, |entry, products, cell| {
                lstm_unit(entry, products.map(summed), cell)
            });
            check(3, [inputs, units], gru, |entry, products, cell| {
                let [reset, update, [from_input, from_state], _] = products;
                let candidate = [from_input as i16, from_state as i16];
                let products = [summed(reset), summed(update), candidate[0], candidate[1]];
                gru_unit(entry, products, cell)
            });
        }
    }
}

#[test]
fn a_unit_computes_what_the_formula_says() {
    let entry = RecurrentLayerEntry {
        cell_power: -12,
        output_zero_point: -3,
        // Outputs in steps of 2^-7: from 2^-30 it takes 2^-23, from 2^-15 2^-8.
        output_factor: Requantisation { multiplier: 1 << 30, shift: -22 },
        ..Zeroable::zeroed()
    };
    let steps = |x: f64| (x * 4_096.0) as i16;
    let sigmoid = |x: f64| 1.0 / (1.0 + f64::exp(-x));
    let tanh = f64::tanh;
    for [i, f, g, o, c] in
        [[0.5, 1.0, -0.7, 0.2, 1.5], [-2.0, 3.0, 2.0, 1.0, -4.0], [6.0, 6.0, 7.0, 6.0, 7.9]]
    {
        let mut cell = steps(c);
        let output = lstm_unit(&entry, [i, f, g, o].map(steps), &mut cell);
        // The range of the cell ends at 8.
        let expected_cell = (sigmoid(f) * c + sigmoid(i) * tanh(g)).min(8.0);
        assert!((f64::from(cell) / 4_096.0 - expected_cell).abs() < 1e-3);
        let expected = sigmoid(o) * tanh(expected_cell);
        assert!((f64::from(i32::from(output) + 3) / 128.0 - expected).abs() < 0.6 / 128.0);
    }
    let entry = RecurrentLayerEntry {
        output_factor: Requantisation { multiplier: 1 << 30, shift: -7 },
        ..entry
    };
    for [r, z, ni, nh, h] in
        [[0.5, 1.0, -0.7, 0.2, 0.5], [-2.0, 7.0, 2.0, 1.0, -0.9], [6.0, -6.0, 3.0, 2.0, 0.1]]
    {
        let mut state = (h * 32_768.0) as i16;
        let output = gru_unit(&entry, [r, z, ni, nh].map(steps), &mut state);
        let update = sigmoid(z);
        let expected = (1.0 - update) * tanh(ni + sigmoid(r) * nh) + update * h;
        assert!((f64::from(state) / 32_768.0 - expected).abs() < 1e-3);
        assert!((f64::from(i32::from(output) + 3) / 128.0 - expected).abs() < 0.6 / 128.0);
    }
}
