//! Summaries in the database: blocks of up to 60 minutes or 48 hours of one channel.
//!
//! | part | bytes | content |
//! |---|---|---|
//! | version | 1 | 1 |
//! | count | varint | number of summaries |
//! | summaries | varints | for each: widths after the one before (the first: after the block's beginning), readings, and the times of least, greatest and last in milliseconds after its beginning |
//! | least, greatest, last, sums | | each: length (varint), then the values as a [`chunk`] with all times 0 |

use rusqlite::{Connection, OptionalExtension, params};

use super::{chunk, varint};
use crate::limits::{HOURS_PER_BLOCK, MINUTES_PER_BLOCK};
use crate::store::summary::{self, Resolution, Summary};

const VERSION: u8 = 1;

fn block_ms(resolution: Resolution) -> i64 {
    match resolution {
        Resolution::Hour => HOURS_PER_BLOCK * resolution.width_ms(),
        _ => MINUTES_PER_BLOCK * Resolution::Minute.width_ms(),
    }
}

pub(super) fn code(resolution: Resolution) -> i64 {
    i64::from(resolution == Resolution::Hour)
}

/// Adds points to the summaries of a channel; each point must be added once.
pub(super) fn add(
    connection: &Connection,
    channel: i64,
    points: &[(i64, f64)],
) -> rusqlite::Result<()> {
    for resolution in [Resolution::Minute, Resolution::Hour] {
        let length_ms = block_ms(resolution);
        let new = summary::summarise(resolution, points);
        let same_block = |a: &Summary, b: &Summary| {
            a.start_ms.div_euclid(length_ms) == b.start_ms.div_euclid(length_ms)
        };
        for part in new.chunk_by(same_block) {
            let start_ms = part[0].start_ms.div_euclid(length_ms) * length_ms;
            let key = params![channel, code(resolution), start_ms];
            let before: Option<Vec<u8>> = connection
                .prepare_cached(
                    "SELECT body FROM summary WHERE channel = ?1 AND resolution = ?2 \
                     AND block_ms = ?3",
                )?
                .query_row(key, |row| row.get(0))
                .optional()?;
            // A block that cannot be read is of no use to anybody.
            let before = before.and_then(|body| decode(resolution, start_ms, &body));
            let merged = summary::merge(before.unwrap_or_default(), part);
            let body = encode(resolution, start_ms, &merged);
            connection
                .prepare_cached(
                    "INSERT INTO summary (channel, resolution, block_ms, end_ms, body) \
                     VALUES (?1, ?2, ?3, ?4, ?5) \
                     ON CONFLICT (channel, resolution, block_ms) DO UPDATE SET body = ?5",
                )?
                .execute(params![
                    channel,
                    code(resolution),
                    start_ms,
                    start_ms + length_ms,
                    body
                ])?;
        }
    }
    Ok(())
}

/// Finds the summaries of a channel that touch a span of time, in the order of time.
pub(super) fn find(
    connection: &Connection,
    channel: i64,
    resolution: Resolution,
    from_ms: i64,
    to_ms: i64,
) -> rusqlite::Result<Vec<Summary>> {
    let mut statement = connection.prepare_cached(
        "SELECT block_ms, body FROM summary WHERE channel = ?1 AND resolution = ?2 \
         AND block_ms > ?3 AND block_ms <= ?4 ORDER BY block_ms",
    )?;
    let after_ms = from_ms.saturating_sub(block_ms(resolution));
    let mut rows = statement.query(params![channel, code(resolution), after_ms, to_ms])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let block = decode(resolution, row.get(0)?, row.get_ref(1)?.as_blob()?);
        let first_ms = from_ms.saturating_sub(resolution.width_ms());
        let touches = |summary: &Summary| summary.start_ms > first_ms && summary.start_ms <= to_ms;
        found.extend(block.unwrap_or_default().into_iter().filter(touches));
    }
    Ok(found)
}

/// Deletes some of the blocks that end before a time; returns how many.
pub(super) fn delete_before(
    connection: &Connection,
    resolution: Resolution,
    before_ms: i64,
    limit: i64,
) -> rusqlite::Result<usize> {
    let old: Vec<(i64, i64, i64)> = connection
        .prepare_cached(
            "SELECT id, channel, end_ms FROM summary \
             WHERE resolution = ?1 AND end_ms < ?2 ORDER BY end_ms LIMIT ?3",
        )?
        .query_map(params![code(resolution), before_ms, limit], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })?
        .collect::<rusqlite::Result<_>>()?;
    for &(id, channel, end_ms) in &old {
        connection.prepare_cached("DELETE FROM summary WHERE id = ?1")?.execute([id])?;
        if resolution == Resolution::Minute {
            connection
                .prepare_cached(
                    "UPDATE channel SET minutes_from_ms = max(coalesce(minutes_from_ms, ?2), ?2) \
                     WHERE id = ?1",
                )?
                .execute([channel, end_ms])?;
        }
    }
    Ok(old.len())
}

fn encode(resolution: Resolution, block_start_ms: i64, summaries: &[Summary]) -> Vec<u8> {
    let mut bytes = vec![VERSION];
    varint::push(&mut bytes, summaries.len() as u64);
    let mut previous_ms = block_start_ms;
    for summary in summaries {
        let widths = (summary.start_ms - previous_ms) / resolution.width_ms();
        previous_ms = summary.start_ms;
        varint::push(&mut bytes, widths.cast_unsigned());
        varint::push(&mut bytes, summary.count);
        for point in [summary.min, summary.max, summary.last] {
            varint::push(&mut bytes, (point.0 - summary.start_ms).cast_unsigned());
        }
    }
    let values: [fn(&Summary) -> f64; 4] = [|s| s.min.1, |s| s.max.1, |s| s.last.1, |s| s.sum];
    for value in values {
        let points: Vec<_> = summaries.iter().map(|summary| (0, value(summary))).collect();
        let packed = chunk::encode(&points);
        varint::push(&mut bytes, packed.len() as u64);
        bytes.extend(packed);
    }
    bytes
}

/// `None` if the bytes are damaged.
fn decode(resolution: Resolution, block_start_ms: i64, mut bytes: &[u8]) -> Option<Vec<Summary>> {
    let bytes = &mut bytes;
    let (&version, rest) = bytes.split_first()?;
    *bytes = rest;
    let count = usize::try_from(varint::take(bytes)?).ok()?;
    if version != VERSION || count as i64 > block_ms(resolution) / resolution.width_ms() {
        return None;
    }
    let mut summaries = Vec::with_capacity(count);
    let mut start_ms = block_start_ms;
    for _ in 0..count {
        let widths = i64::try_from(varint::take(bytes)?).ok()?;
        start_ms = start_ms.checked_add(widths.checked_mul(resolution.width_ms())?)?;
        let readings = varint::take(bytes)?;
        let mut point = || {
            let after_ms = i64::try_from(varint::take(bytes)?).ok()?;
            Some((start_ms.checked_add(after_ms)?, 0.0))
        };
        let (min, max, last) = (point()?, point()?, point()?);
        summaries.push(Summary { start_ms, count: readings, min, max, last, sum: 0.0 });
    }
    let places: [fn(&mut Summary) -> &mut f64; 4] =
        [|s| &mut s.min.1, |s| &mut s.max.1, |s| &mut s.last.1, |s| &mut s.sum];
    for place in places {
        let length = usize::try_from(varint::take(bytes)?).ok()?;
        let (packed, rest) = bytes.split_at_checked(length)?;
        *bytes = rest;
        let values = chunk::decode(packed).ok()?;
        if values.len() != summaries.len() {
            return None;
        }
        for (summary, (_, value)) in summaries.iter_mut().zip(values) {
            *place(summary) = value;
        }
    }
    bytes.is_empty().then_some(summaries)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn blocks_come_back(
            points in prop::collection::vec((0_i64..3_600_000, any::<f64>()), 0..200),
            hours in any::<bool>(),
        ) {
            let resolution = if hours { Resolution::Hour } else { Resolution::Minute };
            let start_ms = 7 * block_ms(resolution);
            let points: Vec<_> = points.into_iter().map(|(t, v)| (start_ms + t, v)).collect();
            let summaries = summary::summarise(resolution, &points);
            let back = decode(resolution, start_ms, &encode(resolution, start_ms, &summaries));
            // Debug output tells equal NaN apart from nothing.
            prop_assert_eq!(format!("{back:?}"), format!("{:?}", Some(summaries)));
        }

        #[test]
        fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = decode(Resolution::Minute, 0, &bytes);
            let _ = decode(Resolution::Hour, i64::MAX, &[&[1, 1][..], &bytes].concat());
        }
    }
}
