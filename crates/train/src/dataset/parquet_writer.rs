//! Recordings out to Apache Parquet.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use parquet::basic::{Compression, LogicalType, Repetition, TimeUnit, Type as Physical, ZstdLevel};
use parquet::data_type::{BoolType, DataType, FloatType, Int32Type, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::types::{PrimitiveTypeBuilder, Type};

use super::{DatasetError, Recording};

/// Rows of one row group.
const GROUP_ROWS: usize = 65_536;
/// Keys of the file's metadata.
pub(super) const NAME_KEY: &str = "stonechat.name";
pub(super) const RATE_KEY: &str = "stonechat.rate_hz";
pub(super) const UNITS_KEY: &str = "stonechat.units";

/// Writes a recording as Parquet, compressed with Zstandard; with this layout:
///
/// | column | type | meaning |
/// |---|---|---|
/// | `time` | INT64, TIMESTAMP(MICROS, UTC) | time of the row |
/// | one a channel | FLOAT | the reading; NaN where there is none |
/// | `label` | BOOLEAN | true = anomalous; only where there are labels |
/// | `clip` | INT32 | number of the segment, from 0 |
///
/// The file's key-value metadata hold `stonechat.name`, `stonechat.rate_hz` and `stonechat.units` (a JSON list).
///
/// # Errors
/// [`DatasetError::File`] or [`DatasetError::Parquet`] where it cannot be written.
pub fn write_parquet(path: &Path, recording: &Recording) -> Result<(), DatasetError> {
    let file = path.display().to_string();
    let out =
        File::create(path).map_err(|source| DatasetError::File { file: file.clone(), source })?;
    write_to(out, recording).map_err(|source| DatasetError::Parquet { file, source })
}

fn write_to(out: File, recording: &Recording) -> Result<(), ParquetError> {
    let units: Vec<&str> = recording.channels.iter().map(|channel| channel.unit.as_str()).collect();
    let note = |key: &str, value: String| KeyValue::new(key.to_owned(), value);
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_key_value_metadata(Some(vec![
            note(NAME_KEY, recording.name.clone()),
            note(RATE_KEY, recording.rate_hz.to_string()),
            note(UNITS_KEY, serde_json::json!(units).to_string()),
        ]))
        .build();
    let mut writer =
        SerializedFileWriter::new(out, Arc::new(schema_of(recording)?), Arc::new(properties))?;
    let clip_of: Vec<i32> =
        recording.segments().zip(0..).flat_map(|(rows, clip)| rows.map(move |_| clip)).collect();
    let rows = recording.rows();
    for start in (0..rows).step_by(GROUP_ROWS) {
        let part = start..(start + GROUP_ROWS).min(rows);
        let mut group = writer.next_row_group()?;
        write_column::<Int64Type>(&mut group, &recording.time_us[part.clone()])?;
        for channel in 0..recording.channels.len() {
            let values: Vec<f32> = part.clone().map(|row| recording.row(row)[channel]).collect();
            write_column::<FloatType>(&mut group, &values)?;
        }
        if let Some(labels) = &recording.labels {
            write_column::<BoolType>(&mut group, &labels[part.clone()])?;
        }
        write_column::<Int32Type>(&mut group, &clip_of[part])?;
        group.close()?;
    }
    writer.close()?;
    Ok(())
}

fn write_column<T: DataType>(
    group: &mut SerializedRowGroupWriter<'_, File>,
    values: &[T::T],
) -> Result<(), ParquetError> {
    let column = group.next_column()?;
    let mut column =
        column.ok_or_else(|| ParquetError::General("the schema has fewer columns".to_owned()))?;
    column.typed::<T>().write_batch(values, None, None)?;
    column.close()
}

fn schema_of(recording: &Recording) -> Result<Type, ParquetError> {
    fn field(name: &str, physical: Physical) -> PrimitiveTypeBuilder<'_> {
        Type::primitive_type_builder(name, physical).with_repetition(Repetition::REQUIRED)
    }
    let timestamp = LogicalType::timestamp(true, TimeUnit::MICROS);
    let mut fields =
        vec![Arc::new(field("time", Physical::INT64).with_logical_type(Some(timestamp)).build()?)];
    for channel in &recording.channels {
        fields.push(Arc::new(field(&channel.name, Physical::FLOAT).build()?));
    }
    if recording.labels.is_some() {
        fields.push(Arc::new(field("label", Physical::BOOLEAN).build()?));
    }
    fields.push(Arc::new(field("clip", Physical::INT32).build()?));
    Type::group_type_builder("recording").with_fields(fields).build()
}
