//! The Fourier transform of real samples, for lengths that are powers of two.
//!
//! A real transform of N points is a complex one of N/2 points over pairs of samples, and a pass
//! that takes the two apart (Sorensen et al. 1987, "Real-valued fast Fourier transform algorithms").
//! The complex transform is Stockham's, radix 4 with a last stage of radix 2 where needed (Van Loan
//! 1992, "Computational Frameworks for the Fast Fourier Transform", section 1.7): it needs no
//! reordering, and its inner loops run over neighbours. Real and imaginary parts lie apart.
//!
//! Training and chip run this code, so spectra agree to the bit.

use core::f32::consts::PI;

/// The shortest transform of real samples.
pub(super) const FFT_LEN_MIN: usize = 8;

/// Returns cos(2π `numerator` / `denominator`), 0 ≤ `numerator` < `denominator`, from an angle of at
/// most an eighth of a turn, so that symmetric entries of a table are equal.
pub(super) fn cosine_of_turn(numerator: usize, denominator: usize) -> f32 {
    // Twice reflected into a quarter of a turn: cos(-a) = cos(a), cos(π - a) = -cos(a).
    let half = numerator.min(denominator - numerator);
    let (quarter, sign) = if 4 * half > denominator {
        // In quarters of the denominator, which need not be a multiple of two.
        (2 * denominator - 4 * half, -1.0)
    } else {
        (4 * half, 1.0)
    };
    let angle = |quarters: usize| 0.5 * PI * (quarters as f32 / denominator as f32);
    let cosine = if 2 * quarter <= denominator {
        libm::cosf(angle(quarter))
    } else {
        libm::sinf(angle(denominator - quarter))
    };
    sign * cosine
}

/// Cosines and sines of a whole turn in `len` steps.
///
/// Entry j is cos(2π(j - len/4) / len): read from a quarter onwards they are the cosines, read from
/// the start the sines.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turn<'t> {
    table: &'t [f32],
}

impl<'t> Turn<'t> {
    /// Fills a table, whose length is a power of two.
    pub(super) fn fill(table: &mut [f32]) {
        let len = table.len();
        for (index, entry) in table.iter_mut().enumerate() {
            *entry = cosine_of_turn((index + len - len / 4) % len, len);
        }
    }

    pub(super) fn new(table: &'t [f32]) -> Self {
        Self { table }
    }

    /// Returns the cosines from 0 to three quarters of a turn.
    fn cosines(&self) -> &'t [f32] {
        &self.table[self.table.len() / 4..]
    }

    /// Returns the sines of a whole turn.
    fn sines(&self) -> &'t [f32] {
        self.table
    }

    /// Returns cos and sin of `index` steps, at most three quarters of a turn.
    fn at(&self, index: usize) -> (f32, f32) {
        (self.cosines()[index], self.sines()[index])
    }

    /// Returns the cosines of a whole turn: up to three quarters, and the rest.
    pub(super) fn cosines_of_turn(&self) -> (&'t [f32], &'t [f32]) {
        let quarter = self.table.len() / 4;
        (&self.table[quarter..], &self.table[..quarter])
    }
}

/// Complex numbers, real and imaginary parts apart.
#[derive(Debug)]
pub(super) struct Plane<'m> {
    pub(super) re: &'m mut [f32],
    pub(super) im: &'m mut [f32],
}

/// Room for a transform: two planes, of which each stage reads one and writes the other.
#[derive(Debug)]
pub(super) struct Planes<'m> {
    /// The first plane, then the second; in each the real parts, then the imaginary ones.
    memory: &'m mut [f32],
    len: usize,
}

impl<'m> Planes<'m> {
    /// Returns the words that a complex transform of `len` points needs.
    pub(super) const fn words(len: usize) -> usize {
        4 * len
    }

    /// Takes [`Planes::words`] of memory for `len` points.
    pub(super) fn new(memory: &'m mut [f32], len: usize) -> Self {
        Self { memory: &mut memory[..Self::words(len)], len }
    }

    fn split(&mut self) -> (Plane<'_>, Plane<'_>) {
        let (first, second) = self.memory.split_at_mut(2 * self.len);
        let (first_re, first_im) = first.split_at_mut(self.len);
        let (second_re, second_im) = second.split_at_mut(self.len);
        (Plane { re: first_re, im: first_im }, Plane { re: second_re, im: second_im })
    }

    /// Tells whether the numbers to transform belong into the first plane: they are written where
    /// the last stage leaves its result in the first.
    pub(super) fn input_is_first(len: usize) -> bool {
        stage_count(len).is_multiple_of(2)
    }

    /// Returns the plane into which the numbers to transform are to be written.
    pub(super) fn input(&mut self) -> Plane<'_> {
        let is_first = Self::input_is_first(self.len);
        let (first, second) = self.split();
        if is_first { first } else { second }
    }

    /// Transforms the plane of [`Planes::input`]: X(k) = Σ x(n) e^(-2πikn / len).
    pub(super) fn transform(&mut self, turn: Turn<'_>) {
        let len = self.len;
        let (first, second) = self.split();
        let (mut from, mut to) =
            if Self::input_is_first(len) { (first, second) } else { (second, first) };
        let (mut points, mut stride) = (len, 1);
        while points > 1 {
            if points == 2 {
                radix_2(stride, &from, &mut to);
            } else if stride == 1 {
                first_radix_4(points, &from, &mut to, turn);
            } else {
                radix_4(points, stride, &from, &mut to, turn);
            }
            points = (points / 4).max(1);
            stride *= 4;
            core::mem::swap(&mut from, &mut to);
        }
    }

    /// Returns the plane of the result, and the memory of the second, which is free again.
    pub(super) fn result(&mut self) -> (Plane<'_>, &mut [f32]) {
        let (first, second) = self.memory.split_at_mut(2 * self.len);
        let (re, im) = first.split_at_mut(self.len);
        (Plane { re, im }, second)
    }
}

/// Stages of a transform of `len` points: one for each factor of 4, and one for a factor of 2.
fn stage_count(len: usize) -> u32 {
    len.trailing_zeros().div_ceil(2)
}

/// Four neighbours, which a machine with vectors handles at once.
type Lanes = [f32; 4];

#[inline(always)]
fn add(a: Lanes, b: Lanes) -> Lanes {
    [a[0] + b[0], a[1] + b[1], a[2] + b[2], a[3] + b[3]]
}

#[inline(always)]
fn subtract(a: Lanes, b: Lanes) -> Lanes {
    [a[0] - b[0], a[1] - b[1], a[2] - b[2], a[3] - b[3]]
}

#[inline(always)]
fn multiply(a: Lanes, b: Lanes) -> Lanes {
    [a[0] * b[0], a[1] * b[1], a[2] * b[2], a[3] * b[3]]
}

/// Complex numbers side by side: real parts, imaginary parts.
type Complex = (Lanes, Lanes);

/// (re + i im)(cos - i sin).
#[inline(always)]
fn turn_lanes_back((re, im): Complex, (cosine, sine): Complex) -> Complex {
    (
        add(multiply(re, cosine), multiply(im, sine)),
        subtract(multiply(im, cosine), multiply(re, sine)),
    )
}

/// The four outputs of a butterfly of radix 4 before their twiddles.
#[inline(always)]
fn butterfly([a, b, c, d]: [Complex; 4]) -> [Complex; 4] {
    let (sum_re, sum_im) = (add(a.0, c.0), add(a.1, c.1));
    let (difference_re, difference_im) = (subtract(a.0, c.0), subtract(a.1, c.1));
    let (odd_re, odd_im) = (add(b.0, d.0), add(b.1, d.1));
    // i times the difference of the odd ones.
    let (turned_re, turned_im) = (subtract(d.1, b.1), subtract(b.0, d.0));
    [
        (add(sum_re, odd_re), add(sum_im, odd_im)),
        (subtract(difference_re, turned_re), subtract(difference_im, turned_im)),
        (subtract(sum_re, odd_re), subtract(sum_im, odd_im)),
        (add(difference_re, turned_re), add(difference_im, turned_im)),
    ]
}

/// (re + i im)(cos - i sin).
#[inline(always)]
fn turn_back(re: f32, im: f32, (cosine, sine): (f32, f32)) -> (f32, f32) {
    (re * cosine + im * sine, im * cosine - re * sine)
}

/// The first stage, in which every butterfly has twiddles of its own.
fn first_radix_4(points: usize, from: &Plane<'_>, to: &mut Plane<'_>, turn: Turn<'_>) {
    let quarter = points / 4;
    let step = turn.table.len() / points;
    let [re0, re1, re2, re3] = quarters(from.re, quarter);
    let [im0, im1, im2, im3] = quarters(from.im, quarter);
    let (out_re, _) = to.re.as_chunks_mut::<4>();
    let (out_im, _) = to.im.as_chunks_mut::<4>();
    let (out_re, out_im) = (&mut out_re[..quarter], &mut out_im[..quarter]);
    for p in 0..quarter {
        let (sum_re, sum_im) = (re0[p] + re2[p], im0[p] + im2[p]);
        let (difference_re, difference_im) = (re0[p] - re2[p], im0[p] - im2[p]);
        let (odd_re, odd_im) = (re1[p] + re3[p], im1[p] + im3[p]);
        let (turned_re, turned_im) = (im3[p] - im1[p], re1[p] - re3[p]);
        let first =
            turn_back(difference_re - turned_re, difference_im - turned_im, turn.at(p * step));
        let second = turn_back(sum_re - odd_re, sum_im - odd_im, turn.at(2 * p * step));
        let third =
            turn_back(difference_re + turned_re, difference_im + turned_im, turn.at(3 * p * step));
        out_re[p] = [sum_re + odd_re, first.0, second.0, third.0];
        out_im[p] = [sum_im + odd_im, first.1, second.1, third.1];
    }
}

fn quarters<T>(plane: &[T], quarter: usize) -> [&[T]; 4] {
    [0, 1, 2, 3].map(|part| &plane[part * quarter..][..quarter])
}

/// A later stage: `stride`, a multiple of four, neighbours share their twiddles.
fn radix_4(points: usize, stride: usize, from: &Plane<'_>, to: &mut Plane<'_>, turn: Turn<'_>) {
    let quarter = points / 4;
    let step = turn.table.len() / points;
    let blocks = stride / 4;
    let re = quarters(from.re.as_chunks::<4>().0, quarter * blocks);
    let im = quarters(from.im.as_chunks::<4>().0, quarter * blocks);
    let outputs_re = to.re.as_chunks_mut::<4>().0.chunks_exact_mut(4 * blocks);
    let outputs_im = to.im.as_chunks_mut::<4>().0.chunks_exact_mut(4 * blocks);
    for (p, (out_re, out_im)) in outputs_re.zip(outputs_im).take(quarter).enumerate() {
        let twiddle = |index: usize| {
            let (cosine, sine) = turn.at(index * p * step);
            ([cosine; 4], [sine; 4])
        };
        let (first, second, third) = (twiddle(1), twiddle(2), twiddle(3));
        let place = p * blocks..(p + 1) * blocks;
        let part = |index: usize| (&re[index][place.clone()], &im[index][place.clone()]);
        let (a, b, c, d) = (part(0), part(1), part(2), part(3));
        for q in 0..blocks {
            let results =
                butterfly([(a.0[q], a.1[q]), (b.0[q], b.1[q]), (c.0[q], c.1[q]), (d.0[q], d.1[q])]);
            (out_re[q], out_im[q]) = results[0];
            (out_re[blocks + q], out_im[blocks + q]) = turn_lanes_back(results[1], first);
            (out_re[2 * blocks + q], out_im[2 * blocks + q]) = turn_lanes_back(results[2], second);
            (out_re[3 * blocks + q], out_im[3 * blocks + q]) = turn_lanes_back(results[3], third);
        }
    }
}

/// The last stage where the length is no power of four; its twiddles are 1.
fn radix_2(stride: usize, from: &Plane<'_>, to: &mut Plane<'_>) {
    for (from, to) in [(&*from.re, &mut *to.re), (&*from.im, &mut *to.im)] {
        let (a, b) = from.split_at(stride);
        let (sums, differences) = to.split_at_mut(stride);
        for (((a, b), sum), difference) in a.iter().zip(b).zip(sums).zip(differences) {
            *sum = a + b;
            *difference = a - b;
        }
    }
}

/// Writes X(k), k = 0 to `len` - 1, of 2 `len` samples, whose pairs were transformed, as two halves
/// of `[len]`: imaginary parts, then real ones. Exchanged like this, the transform is the inverse one.
pub(super) fn unpack_exchanged(plane: &Plane<'_>, turn: Turn<'_>, output: &mut [f32]) {
    let (im, re) = output.split_at_mut(plane.re.len());
    unpack_into(plane, turn, [re, im], |re, im| [re, im]);
}

/// Writes |X(k)|², k = 0 to `len`, of 2 `len` samples, whose pairs were transformed.
pub(super) fn power(plane: &Plane<'_>, turn: Turn<'_>, output: &mut [f32]) {
    let len = plane.re.len();
    unpack_into(plane, turn, [&mut output[..len]], |re, im| {
        [add(multiply(re, re), multiply(im, im))]
    });
    let last = plane.re[0] - plane.im[0];
    output[len] = last * last;
}

/// Writes the real parts of X(k), k = 0 to `len` - 1.
pub(super) fn real(plane: &Plane<'_>, turn: Turn<'_>, output: &mut [f32]) {
    unpack_into(plane, turn, [&mut output[..plane.re.len()]], |re, _| [re]);
}

/// Writes what `values` makes of each X(k), k = 0 to `len` - 1, into as many outputs.
#[inline(always)]
fn unpack_into<const N: usize>(
    plane: &Plane<'_>,
    turn: Turn<'_>,
    mut outputs: [&mut [f32]; N],
    values: impl Fn(Lanes, Lanes) -> [Lanes; N],
) {
    let len = plane.re.len();
    let half = len / 2;
    let step = turn.table.len() / (2 * len);
    let first = values([plane.re[0] + plane.im[0]; 4], [0.0; 4]);
    let middle = values([plane.re[half]; 4], [-plane.im[half]; 4]);
    for (output, (first, middle)) in outputs.iter_mut().zip(first.into_iter().zip(middle)) {
        (output[0], output[half]) = (first[0], middle[0]);
    }
    let last = half - 1;
    let mut halves = outputs.map(|output| {
        let (low, high) = output[..len].split_at_mut(half);
        (&mut low[1..], &mut high[1..])
    });
    let (re_low, re_high) = (&plane.re[1..half], &plane.re[half + 1..len]);
    let (im_low, im_high) = (&plane.im[1..half], &plane.im[half + 1..len]);
    let (cosines, sines) = (&turn.cosines()[step..], &turn.sines()[step..]);
    // Four at once; the high half runs backwards.
    let blocks = last / 4;
    let (re_first, im_first) = (fours(re_low, blocks), fours(im_low, blocks));
    let (re_last, im_last) = (last_fours(re_high, blocks), last_fours(im_high, blocks));
    for block in 0..blocks {
        let mirrored = blocks - 1 - block;
        let low = (re_first[block], im_first[block]);
        let high = (reversed(re_last[mirrored]), reversed(im_last[mirrored]));
        let twiddle = (steps(cosines, 4 * block, step), steps(sines, 4 * block, step));
        let (low, high) = take_apart(low, high, twiddle);
        let (low, high) = (values(low.0, low.1), values(high.0, high.1));
        for (index, halves) in halves.iter_mut().enumerate() {
            halves.0.as_chunks_mut().0[block] = low[index];
            let last = halves.1.as_rchunks_mut().1;
            let at = last.len() - 1 - block;
            last[at] = reversed(high[index]);
        }
    }
    for k in 4 * blocks..last {
        let mirrored = last - 1 - k;
        let low = ([re_low[k]; 4], [im_low[k]; 4]);
        let high = ([re_high[mirrored]; 4], [im_high[mirrored]; 4]);
        let twiddle = ([cosines[k * step]; 4], [sines[k * step]; 4]);
        let (low, high) = take_apart(low, high, twiddle);
        let (low, high) = (values(low.0, low.1), values(high.0, high.1));
        for (index, halves) in halves.iter_mut().enumerate() {
            (halves.0[k], halves.1[mirrored]) = (low[index][0], high[index][0]);
        }
    }
}

/// X(k) and X(len - k) of the transform of the even samples and that of the odd ones, which is turned
/// by one sample.
#[inline(always)]
fn take_apart(low: Complex, high: Complex, twiddle: Complex) -> (Complex, Complex) {
    const HALF: Lanes = [0.5; 4];
    let even = (multiply(HALF, add(low.0, high.0)), multiply(HALF, subtract(low.1, high.1)));
    let odd = (multiply(HALF, add(low.1, high.1)), multiply(HALF, subtract(high.0, low.0)));
    let odd = turn_lanes_back(odd, twiddle);
    ((add(even.0, odd.0), add(even.1, odd.1)), (subtract(even.0, odd.0), subtract(odd.1, even.1)))
}

#[inline(always)]
fn reversed([a, b, c, d]: Lanes) -> Lanes {
    [d, c, b, a]
}

/// The first `count` fours.
fn fours(numbers: &[f32], count: usize) -> &[Lanes] {
    &numbers.as_chunks().0[..count]
}

/// The last `count` fours.
fn last_fours(numbers: &[f32], count: usize) -> &[Lanes] {
    let fours = numbers.as_rchunks().1;
    &fours[fours.len() - count..]
}

/// Four entries of a table from `first` steps on.
#[inline(always)]
fn steps(table: &[f32], first: usize, step: usize) -> Lanes {
    let table = &table[first * step..];
    [table[0], table[step], table[2 * step], table[3 * step]]
}
