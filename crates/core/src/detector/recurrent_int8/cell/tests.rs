extern crate std;

use std::vec::Vec;

use super::*;
use crate::detector::format::recurrent::{gate_bias_index, gate_weight_index};
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

/// The gates of one unit after the other, each sum on its own.
fn plain_products(
    gates: usize,
    [input, hidden]: [&[i8]; 2],
    rows: &[Vec<i8>],
    biases: &[[i32; 2]],
    factors: &[Requantisation],
) -> Vec<[i32; 2]> {
    let sum = |weights: &[i8], numbers: &[i8]| -> i32 {
        weights.iter().zip(numbers).map(|(w, x)| i32::from(*w) * i32::from(*x)).sum()
    };
    let round = |x: i32, factor: Requantisation| {
        multiply_by_quantised_multiplier(x, factor).clamp(-32_768, 32_767)
    };
    rows.iter()
        .zip(biases)
        .enumerate()
        .map(|(row, (weights, bias))| {
            let (of_input, of_state) = weights.split_at(input.len());
            let gate = row % gates;
            [
                round(sum(of_input, input) + bias[0], factors[gate]),
                round(sum(of_state, hidden) + bias[1], factors[gates + gate]),
            ]
        })
        .collect()
}

/// A layer of any shape, run by the kernel and unit by unit.
fn check<const GATES: usize>(
    inputs: usize,
    units: usize,
    run: fn(&CellNumbers<'_>, &[i8], CellState<'_>),
    unit_of: fn(&RecurrentLayerEntry, &Products<GATES>, usize, &mut i16) -> i8,
) {
    let mut state = (inputs * 37 + units) as u32;
    let mut random = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as i8
    };
    let columns = inputs + units;
    // `[units][gates]`.
    let rows: Vec<Vec<i8>> =
        (0..units * GATES).map(|_| (0..columns).map(|_| random()).collect()).collect();
    let biases: Vec<[i32; 2]> =
        rows.iter().map(|_| [i32::from(random()) * 50, i32::from(random()) * 50]).collect();
    let mut weights = std::vec![0; GATES * units * columns];
    let mut bias = std::vec![0; 2 * GATES * units];
    for (row, numbers) in rows.iter().enumerate() {
        let (unit, gate) = (row / GATES, row % GATES);
        for (column, weight) in numbers.iter().enumerate() {
            weights[gate_weight_index(GATES, inputs, units, unit, gate, column)] = *weight;
        }
        for part in 0..2 {
            bias[gate_bias_index(GATES, units, unit, gate, part)] = biases[row][part];
        }
    }
    let factors: Vec<Requantisation> = (0..2 * GATES)
        .map(|_| Requantisation {
            multiplier: (1 << 30) + (i32::from(random()) << 20).abs(),
            shift: -2,
        })
        .collect();
    let entry = RecurrentLayerEntry {
        inputs: inputs as u32,
        units: units as u32,
        cell_power: -13,
        output_zero_point: 3,
        output_factor: Requantisation {
            multiplier: 1 << 30,
            shift: if GATES == 4 { -21 } else { -7 },
        },
        ..Zeroable::zeroed()
    };
    let numbers =
        CellNumbers { entry: &entry, weights: &weights, bias: &bias, requantisation: &factors };
    let input: Vec<i8> = (0..inputs).map(|_| random()).collect();
    let before: Vec<i8> = (0..units).map(|_| random()).collect();
    let mut cells: Vec<i16> = (0..units).map(|_| i16::from(random()) * 200).collect();

    let products = plain_products(GATES, [&input, &before], &rows, &biases, &factors);
    let mut expected_cells = cells.clone();
    let expected: Vec<i8> = (0..units)
        .map(|unit| {
            let part =
                |part: usize| core::array::from_fn(|gate| products[unit * GATES + gate][part]);
            let products = Products { with_input: part(0), with_state: part(1) };
            unit_of(&entry, &products, 0, &mut expected_cells[unit])
        })
        .collect();

    let (mut hidden, mut next) = (before, std::vec![0; units]);
    let state = CellState { hidden: &mut hidden, cells: &mut cells, next: &mut next };
    run(&numbers, &input, state);
    assert_eq!(hidden, expected, "{inputs} inputs, {units} units");
    assert_eq!(cells, expected_cells, "{inputs} inputs, {units} units");
}

#[test]
fn a_layer_of_any_shape_is_its_units_one_by_one() {
    for inputs in 1..=9 {
        for units in 1..=9 {
            check::<4>(inputs, units, lstm, lstm_unit::<4>);
            check::<3>(inputs, units, gru, gru_unit::<3>);
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
    let steps = |x: f64| (x * 4_096.0) as i32;
    let sigmoid = |x: f64| 1.0 / (1.0 + f64::exp(-x));
    let tanh = f64::tanh;
    for [i, f, g, o, c] in
        [[0.5, 1.0, -0.7, 0.2, 1.5], [-2.0, 3.0, 2.0, 1.0, -4.0], [6.0, 6.0, 7.0, 6.0, 7.9]]
    {
        let products = Products {
            with_input: [i, f, g, o].map(|x| steps(x / 2.0)),
            with_state: [i, f, g, o].map(|x| steps(x / 2.0)),
        };
        let mut cell = steps(c) as i16;
        let output = lstm_unit(&entry, &products, 0, &mut cell);
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
        let products = Products {
            with_input: [r / 2.0, z / 2.0, ni].map(steps),
            with_state: [r / 2.0, z / 2.0, nh].map(steps),
        };
        let mut state = (h * 32_768.0) as i16;
        let output = gru_unit(&entry, &products, 0, &mut state);
        let update = sigmoid(z);
        let expected = (1.0 - update) * tanh(ni + sigmoid(r) * nh) + update * h;
        assert!((f64::from(state) / 32_768.0 - expected).abs() < 1e-3);
        assert!((f64::from(i32::from(output) + 3) / 128.0 - expected).abs() < 0.6 / 128.0);
    }
}
