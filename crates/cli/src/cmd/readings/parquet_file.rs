//! Readings as Apache Parquet, compressed with Zstandard.
//!
//! | column | type | meaning |
//! |---|---|---|
//! | `device`, `channel`, `unit` | BYTE_ARRAY, STRING | as stored; no unit is an empty text |
//! | `time` | INT64, TIMESTAMP(MILLIS, UTC) | when |
//! | `value` | DOUBLE | the reading |

use std::fs::File;
use std::sync::Arc;

use parquet::basic::{Compression, LogicalType, Repetition, TimeUnit, Type as Physical, ZstdLevel};
use parquet::data_type::{ByteArray, ByteArrayType, DataType, DoubleType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::types::{Type, TypePtr};
use stonechat_server::store::sqlite::Part;

/// Rows of one row group; so many are held at one time.
const GROUP_ROWS: usize = 131_072;

/// A file that is being written.
pub(super) struct ParquetFile {
    writer: SerializedFileWriter<File>,
    texts: [Vec<ByteArray>; 3],
    times: Vec<i64>,
    values: Vec<f64>,
}

impl ParquetFile {
    pub(super) fn new(file: File) -> Result<Self, ParquetError> {
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .build();
        let writer = SerializedFileWriter::new(file, schema()?, Arc::new(properties))?;
        Ok(Self { writer, texts: Default::default(), times: Vec::new(), values: Vec::new() })
    }

    pub(super) fn push(&mut self, part: &Part<'_>) -> Result<(), ParquetError> {
        // Copies of these share their bytes.
        let texts = [part.device, part.channel, part.unit].map(ByteArray::from);
        for &(time_ms, value) in part.points {
            for (column, text) in self.texts.iter_mut().zip(&texts) {
                column.push(text.clone());
            }
            self.times.push(time_ms);
            self.values.push(value);
            if self.times.len() == GROUP_ROWS {
                self.write_group()?;
            }
        }
        Ok(())
    }

    pub(super) fn finish(mut self) -> Result<(), ParquetError> {
        if !self.times.is_empty() {
            self.write_group()?;
        }
        self.writer.close().map(drop)
    }

    fn write_group(&mut self) -> Result<(), ParquetError> {
        let mut group = self.writer.next_row_group()?;
        for column in &mut self.texts {
            write_column::<ByteArrayType>(&mut group, column)?;
            column.clear();
        }
        write_column::<Int64Type>(&mut group, &self.times)?;
        write_column::<DoubleType>(&mut group, &self.values)?;
        group.close()?;
        self.times.clear();
        self.values.clear();
        Ok(())
    }
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

fn schema() -> Result<TypePtr, ParquetError> {
    let field = |name, physical, logical| {
        Type::primitive_type_builder(name, physical)
            .with_repetition(Repetition::REQUIRED)
            .with_logical_type(logical)
            .build()
            .map(Arc::new)
    };
    let timestamp = LogicalType::timestamp(true, TimeUnit::MILLIS);
    let fields = vec![
        field("device", Physical::BYTE_ARRAY, Some(LogicalType::String))?,
        field("channel", Physical::BYTE_ARRAY, Some(LogicalType::String))?,
        field("unit", Physical::BYTE_ARRAY, Some(LogicalType::String))?,
        field("time", Physical::INT64, Some(timestamp))?,
        field("value", Physical::DOUBLE, None)?,
    ];
    Type::group_type_builder("reading").with_fields(fields).build().map(Arc::new)
}
