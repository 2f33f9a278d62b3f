//! Linear algebra of symmetric matrices in double precision: small, plain, and with the same bits on every machine.
//!
//! Matrices are square, row by row, in one slice. Only additions, multiplications, divisions and square roots are used,
//! which IEEE 754 rounds the same way everywhere.

/// Steps of the QL iteration for one eigenvalue; one or two are usual.
const QL_STEPS_MAX: usize = 60;

/// Eigenvalues and eigenvectors of a symmetric matrix.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Eigen {
    /// From the largest down.
    pub(crate) values: Vec<f64>,
    /// `[n][n]`: a row for each value, of length 1, its entry of greatest magnitude positive.
    pub(crate) vectors: Vec<f64>,
}

/// Decomposes a symmetric matrix: Householder's reduction to three diagonals, then the QL iteration with implicit shifts
/// (Dubrulle, Martin and Wilkinson 1968, "The implicit QL algorithm"; Golub and Van Loan, "Matrix Computations",
/// sections 8.3.1 and 8.3.5).
///
/// None where the matrix is not finite.
pub(crate) fn eigen(matrix: &[f64], width: usize) -> Option<Eigen> {
    let mut matrix = matrix.to_vec();
    let mut vectors = identity(width);
    reduce(&mut matrix, &mut vectors, width);
    let mut values: Vec<f64> = (0..width).map(|i| matrix[i * width + i]).collect();
    // The number below the diagonal in each column, and a zero.
    let mut beside: Vec<f64> = (1..width).map(|i| matrix[i * width + i - 1]).collect();
    beside.push(0.0);
    if values.iter().chain(&beside).any(|value| !value.is_finite()) {
        return None;
    }
    for first in 0..width {
        iterate(&mut values, &mut beside, &mut vectors, first)?;
    }
    let mut order: Vec<usize> = (0..width).collect();
    order.sort_by(|a, b| values[*b].total_cmp(&values[*a]));
    let sorted = order.iter().flat_map(|index| {
        let vector = &vectors[index * width..][..width];
        let greatest = vector.iter().fold(0.0_f64, |a, b| if b.abs() > a.abs() { *b } else { a });
        vector.iter().map(move |value| if greatest < 0.0 { -value } else { *value })
    });
    Some(Eigen { vectors: sorted.collect(), values: order.iter().map(|i| values[*i]).collect() })
}

fn identity(width: usize) -> Vec<f64> {
    let mut matrix = vec![0.0; width * width];
    for index in 0..width {
        matrix[index * width + index] = 1.0;
    }
    matrix
}

/// Reduces to three diagonals by reflections, which are also applied to the rows of `vectors`.
fn reduce(matrix: &mut [f64], vectors: &mut [f64], width: usize) {
    for column in 0..width.saturating_sub(2) {
        let rest = column + 1;
        let mut mirror: Vec<f64> = (rest..width).map(|row| matrix[row * width + column]).collect();
        let below: f64 = mirror[1..].iter().map(|x| x * x).sum();
        if below == 0.0 {
            continue;
        }
        let length = (mirror[0] * mirror[0] + below).sqrt();
        // Away from zero, so that nothing cancels.
        mirror[0] += if mirror[0] < 0.0 { -length } else { length };
        let norm = mirror.iter().map(|x| x * x).sum::<f64>().sqrt();
        for x in &mut mirror {
            *x /= norm;
        }
        reflect_both_sides(matrix, width, column, &mirror);
        let mut product = vec![0.0; width];
        for (weight, row) in mirror.iter().zip(vectors[rest * width..].chunks_exact(width)) {
            add_scaled(&mut product, *weight, row);
        }
        for (weight, row) in mirror.iter().zip(vectors[rest * width..].chunks_exact_mut(width)) {
            add_scaled(row, -2.0 * weight, &product);
        }
    }
}

/// Replaces the matrix A by H A H with H = I - 2vvᵀ, where v has zeros up to `column`.
fn reflect_both_sides(matrix: &mut [f64], width: usize, column: usize, mirror: &[f64]) {
    // A - 2(vwᵀ + wvᵀ) with p = Av and w = p - (vᵀp)v, on all rows that v touches; what it does to
    // the rows before is the same number mirrored.
    let rest = column + 1;
    let rows = matrix[column * width..].chunks_exact(width);
    let products: Vec<f64> = rows.map(|row| dot(&row[rest..], mirror)).collect();
    let share = dot(&products[1..], mirror);
    let weights: Vec<f64> =
        products[1..].iter().zip(mirror).map(|(product, v)| product - share * v).collect();
    for (row, (v, w)) in
        matrix[rest * width..].chunks_exact_mut(width).zip(mirror.iter().zip(&weights))
    {
        add_scaled(&mut row[rest..], -2.0 * v, &weights);
        add_scaled(&mut row[rest..], -2.0 * w, mirror);
    }
    for (index, v) in mirror.iter().enumerate() {
        let value = matrix[column * width + rest + index] - 2.0 * products[0] * v;
        matrix[column * width + rest + index] = value;
        matrix[(rest + index) * width + column] = value;
    }
}

/// Finds the eigenvalue at `first`, rotating the rows of `vectors` along.
fn iterate(
    values: &mut [f64],
    beside: &mut [f64],
    vectors: &mut [f64],
    first: usize,
) -> Option<()> {
    let width = values.len();
    for _ in 0..QL_STEPS_MAX {
        let negligible = |index: &usize| {
            let size = values[*index].abs() + values[*index + 1].abs();
            beside[*index].abs() <= f64::EPSILON * size
        };
        let last = (first..width - 1).find(negligible).unwrap_or(width - 1);
        if last == first {
            return Some(());
        }
        let shift = (values[first + 1] - values[first]) / (2.0 * beside[first]);
        let length = (shift * shift + 1.0).sqrt();
        let length = if shift < 0.0 { -length } else { length };
        let mut g = values[last] - values[first] + beside[first] / (shift + length);
        let (mut sine, mut cosine, mut drop) = (1.0, 1.0, 0.0);
        let mut split = false;
        for index in (first..last).rev() {
            let f = sine * beside[index];
            let b = cosine * beside[index];
            let radius = (f * f + g * g).sqrt();
            beside[index + 1] = radius;
            if radius == 0.0 {
                values[index + 1] -= drop;
                beside[last] = 0.0;
                split = true;
                break;
            }
            (sine, cosine) = (f / radius, g / radius);
            g = values[index + 1] - drop;
            let turned = (values[index] - g) * sine + 2.0 * cosine * b;
            drop = sine * turned;
            values[index + 1] = g + drop;
            g = cosine * turned - b;
            rotate(vectors, width, index, sine, cosine);
        }
        if !split {
            values[first] -= drop;
            beside[first] = g;
            beside[last] = 0.0;
        }
    }
    None
}

fn rotate(vectors: &mut [f64], width: usize, index: usize, sine: f64, cosine: f64) {
    let (upper, lower) = vectors[index * width..][..2 * width].split_at_mut(width);
    for (a, b) in upper.iter_mut().zip(lower) {
        (*a, *b) = (cosine * *a - sine * *b, sine * *a + cosine * *b);
    }
}

/// Returns the lower triangle L of A = LLᵀ (Cholesky); none where A is not positive definite.
pub(crate) fn cholesky(matrix: &[f64], width: usize) -> Option<Vec<f64>> {
    let mut lower = vec![0.0; width * width];
    for row in 0..width {
        for column in 0..=row {
            let known = dot(&lower[row * width..][..column], &lower[column * width..][..column]);
            let rest = matrix[row * width + column] - known;
            lower[row * width + column] = if column < row {
                rest / lower[column * width + column]
            } else if rest > f64::EPSILON * matrix[row * width + row] {
                rest.sqrt()
            } else {
                return None;
            };
        }
    }
    Some(lower)
}

/// Returns the inverse of a lower triangle whose diagonal has no zero.
pub(crate) fn invert_lower(lower: &[f64], width: usize) -> Vec<f64> {
    let mut inverse = vec![0.0; width * width];
    for row in 0..width {
        let (before, rest) = inverse.split_at_mut(row * width);
        let current = &mut rest[..width];
        for (weight, earlier) in lower[row * width..][..row].iter().zip(before.chunks_exact(width))
        {
            add_scaled(current, -weight, earlier);
        }
        current[row] = 1.0;
        for value in current {
            *value /= lower[row * width + row];
        }
    }
    inverse
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn add_scaled(target: &mut [f64], factor: f64, source: &[f64]) {
    for (target, source) in target.iter_mut().zip(source) {
        *target += factor * source;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    /// A matrix with known eigenvalues in none of its entries: A = B + Bᵀ.
    fn symmetric(width: usize, seed: u64) -> Vec<f64> {
        let mut random = Random::new(seed);
        let half: Vec<f64> = (0..width * width).map(|_| random.normal()).collect();
        let entry = |index: usize| half[index] + half[index % width * width + index / width];
        (0..width * width).map(entry).collect()
    }

    fn assert_decomposes(matrix: &[f64], width: usize) {
        let eigen = eigen(matrix, width).unwrap();
        let scale = matrix.iter().map(|x| x.abs()).fold(1e-300, f64::max) * width as f64;
        assert!(eigen.values.is_sorted_by(|a, b| a >= b));
        for (index, value) in eigen.values.iter().enumerate() {
            let vector = &eigen.vectors[index * width..][..width];
            for (row, expected) in matrix.chunks_exact(width).zip(vector) {
                let error = (dot(row, vector) - value * expected).abs();
                assert!(error < 1e-13 * scale, "{width}: value {index} errs by {error}");
            }
            for (other, second) in eigen.vectors.chunks_exact(width).enumerate() {
                let expected = f64::from(u8::from(other == index));
                assert!((dot(vector, second) - expected).abs() < 1e-12, "{index}, {other}");
            }
        }
    }

    #[test]
    fn eigenvectors_are_orthonormal_and_stretched_by_their_values() {
        for (width, seed) in [(1, 1), (2, 2), (3, 3), (8, 4), (40, 5)] {
            assert_decomposes(&symmetric(width, seed), width);
        }
    }

    #[test]
    fn repeated_and_zero_values_are_found() {
        assert_decomposes(&identity(5), 5);
        assert_decomposes(&[0.0; 16], 4);
        // All ones: the values are 6 and five times 0.
        let ones = [1.0; 36];
        assert_decomposes(&ones, 6);
        let values = eigen(&ones, 6).unwrap().values;
        assert!((values[0] - 6.0).abs() < 1e-12 && values[5].abs() < 1e-12, "{values:?}");
    }

    #[test]
    fn the_second_difference_has_its_known_values() {
        // 2 on the diagonal, -1 beside it: 2 - 2 cos(kπ / (n + 1)).
        let width = 12;
        let mut matrix = vec![0.0; width * width];
        for index in 0..width {
            matrix[index * width + index] = 2.0;
            if index + 1 < width {
                matrix[index * width + index + 1] = -1.0;
                matrix[(index + 1) * width + index] = -1.0;
            }
        }
        let values = eigen(&matrix, width).unwrap().values;
        for (index, value) in values.iter().enumerate() {
            let k = (width - index) as f64;
            let expected = 2.0 - 2.0 * (k * std::f64::consts::PI / (width as f64 + 1.0)).cos();
            assert!((value - expected).abs() < 1e-13, "{index}: {value}, {expected}");
        }
        assert!(eigen(&[1.0, f64::NAN, f64::NAN, 1.0], 2).is_none());
    }

    #[test]
    fn a_triangle_and_its_inverse_give_the_matrix_and_the_identity() {
        let width = 9;
        let half = symmetric(width, 7);
        // BBᵀ + I is positive definite.
        let rows = || half.chunks_exact(width);
        let product = rows().flat_map(|a| rows().map(move |b| dot(a, b)));
        let one = identity(width);
        let matrix: Vec<f64> = product.zip(&one).map(|(a, b)| a + b).collect();
        let lower = cholesky(&matrix, width).unwrap();
        let inverse = invert_lower(&lower, width);
        for row in 0..width {
            for column in 0..width {
                let found = dot(&lower[row * width..][..width], &lower[column * width..][..width]);
                assert!((found - matrix[row * width + column]).abs() < 1e-11);
                let column_of = |index: usize| inverse[index * width + column];
                let found: f64 =
                    (0..width).map(|index| lower[row * width + index] * column_of(index)).sum();
                assert!((found - one[row * width + column]).abs() < 1e-12);
            }
        }
        assert!(cholesky(&[1.0, 2.0, 2.0, 1.0], 2).is_none());
        assert!(cholesky(&[1.0, 1.0, 1.0, 1.0], 2).is_none());
    }
}
