//! Files as they come: every dialect read to the same rows, every fault named by row and column.

use std::path::PathBuf;

use super::time::{TimeFormat, read_any};
use super::*;

fn read_text(text: &str, options: &ReadOptions) -> Result<(Recording, ReadReport), DatasetError> {
    read_csv_bytes("folder/test.csv", text.as_bytes(), options)
}

fn default_read(text: &str) -> (Recording, ReadReport) {
    read_text(text, &ReadOptions::default()).unwrap()
}

fn at_rate(rate_hz: f64) -> ReadOptions {
    ReadOptions { rate_hz: Some(rate_hz), ..ReadOptions::default() }
}

fn error_of(text: &str, options: &ReadOptions) -> String {
    read_text(text, options).unwrap_err().to_string()
}

/// A file that is removed when the test ends.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("stonechat-dataset-{}-{name}", std::process::id())))
    }

    fn with(name: &str, content: &str) -> Self {
        let scratch = Self::new(name);
        std::fs::write(&scratch.0, content).unwrap();
        scratch
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A file that was never written is no fault of the test.
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn reads_the_same_rows_from_every_dialect() {
    let expected =
        default_read("time,a,b\n2020-01-01 00:00:00,1.5,2\n2020-01-01 00:00:01,-3,4e1\n").0;
    assert_eq!(expected.samples, [1.5, 2.0, -3.0, 40.0]);
    assert_eq!(expected.rate_hz, 1.0);
    assert_eq!(expected.time_us[0], read_any("2020-01-01").unwrap());
    assert_eq!(expected.name, "test.csv");
    for text in [
        "time,a,b\r\n2020-01-01 00:00:00,1.5,2\r\n2020-01-01 00:00:01,-3,4e1\r\n",
        "\u{feff}time,a,b\n2020-01-01T00:00:00Z,1.5,2\n2020-01-01T00:00:01Z,-3,4e1",
        "time;a;b\n2020-01-01 00:00:00;1,5;2\n2020-01-01 00:00:01;-3;4e1\n",
        "time\ta\tb\n01/01/2020 0:00\t 1.5\t2 \n01/01/2020 0:00:01\t-3\t40\n",
        "time|a|b\n1577836800|1.5|2\n1577836801|-3|40\n",
        "\"time\",\"a\",\"b\"\n\"2020-01-01 00:00:00\",\"1.5\",\"2\"\n\n\"2020-01-01 00:00:01\",\"-3\",\"40\"\n",
        "a,time,b\n1.5,1577836800000,2\n-3,1577836801000,40\n",
        "a,b,x,time\n1.5,2,text,1577836800.0\n-3,40,text,1577836801.0\n",
    ] {
        let (found, report) = default_read(text);
        assert_eq!(found, expected, "{text}");
        assert!(report.header);
    }
}

#[test]
fn reads_without_header_and_without_clock() {
    let (recording, report) = read_text("1,2\n3,4\n5,6\n", &at_rate(200.0)).unwrap();
    assert!(!report.header);
    assert_eq!(recording.rows(), 3);
    assert_eq!(recording.channels[1].name, "column2");
    assert_eq!(recording.time_us, [0, 5000, 10_000]);
    assert_eq!(recording.segment_starts, [0]);
    let options = ReadOptions { header: Some(true), ..at_rate(1.0) };
    assert_eq!(read_text("1,2\n3,4\n5,6\n", &options).unwrap().0.channels[1].name, "2");
    let message = error_of("a,b\n1,2\n3,4\n", &ReadOptions::default());
    assert!(message.contains("no time column") && message.contains("rate in hertz"), "{message}");
}

#[test]
fn chooses_names_and_numbers_units_and_rows() {
    let text = "time,Current (A),T [°C],ax_g,note\n0,1,2,3,x\n1,4,5,6,x\n2,7,8,9,x\n3,10,11,12,x\n";
    let (recording, report) = default_read(text);
    let units: Vec<&str> = recording.channels.iter().map(|channel| channel.unit.as_str()).collect();
    assert_eq!(units, ["A", "Cel", "g"]);
    assert_eq!(report.skipped_columns, ["note"]);
    let options = ReadOptions {
        channels: vec!["4=x:m/s2".parse().unwrap(), "current (a)".parse().unwrap()],
        rows: Some(1..3),
        ..ReadOptions::default()
    };
    let (recording, _) = read_text(text, &options).unwrap();
    assert_eq!(
        recording.channels,
        [ChannelInfo::new("x", "m/s2"), ChannelInfo::new("Current (A)", "A")]
    );
    assert_eq!(recording.samples, [6.0, 4.0, 9.0, 7.0]);
    assert_eq!(recording.time_us, [1_000_000, 2_000_000]);
    let options = ReadOptions { time_us: Some(2_000_000..9_000_000), ..ReadOptions::default() };
    assert_eq!(read_text(text, &options).unwrap().0.time_us, [2_000_000, 3_000_000]);
    let options =
        ReadOptions { channels: vec!["speed".parse().unwrap()], ..ReadOptions::default() };
    let message = error_of(text, &options);
    assert!(
        message.contains("\"speed\"") && message.contains("time, Current (A), T [°C], ax_g, note"),
        "{message}"
    );
}

#[test]
fn cuts_at_clips_and_at_gaps() {
    let (recording, report) =
        read_text("clip,a\n0000,1\n0000,2\n0001,3\n0001,4\n0002,5\n", &at_rate(2.0)).unwrap();
    assert_eq!(recording.segment_starts, [0, 2, 4]);
    assert_eq!(report.clip_column.as_deref(), Some("clip"));
    assert_eq!(recording.channels.len(), 1);
    assert_eq!(recording.segments().collect::<Vec<_>>(), [0..2, 2..4, 4..5]);
    let text = "time,a\n0,1\n1,2\n2,3\n4.4,4\n7,5\n8,6\n";
    let (recording, report) = default_read(text);
    assert_eq!((recording.segment_starts.as_slice(), report.gaps), (&[0, 4][..], 1));
    let options = ReadOptions { gap_factor: 3.0, ..ReadOptions::default() };
    assert_eq!(read_text(text, &options).unwrap().0.segment_starts, [0]);
}

#[test]
fn takes_labels_from_a_column() {
    let text = "time,a,anomaly,changepoint\n0,1,0,0\n1,2,1.0,1\n2,3,true,0\n";
    let (recording, report) = default_read(text);
    assert_eq!(recording.labels, Some(vec![false, true, true]));
    assert_eq!(recording.channels.len(), 1);
    assert_eq!(report.skipped_columns, ["changepoint"]);
    assert_eq!(recording.anomalous_rows(), vec![1..3]);
    let unused = ReadOptions { label: Choice::Unused, ..ReadOptions::default() };
    assert_eq!(read_text("time,a,anomaly\n0,1,0\n1,2,1\n", &unused).unwrap().0.channels.len(), 2);
    let chosen = ReadOptions { label: Choice::Column(Column::new("a")), ..ReadOptions::default() };
    let message = error_of(text, &chosen);
    assert!(message.contains("row 3") && message.contains("\"2\" is no label"), "{message}");
}

#[test]
fn missing_cells_become_nan_and_are_counted() {
    let (recording, report) = default_read("time,a,b\n0,,1\n1,NaN,2\n2,3,n/a\n3,inf,4\n");
    assert_eq!(report.missing_cells, [3, 1]);
    assert_eq!(recording.samples.iter().filter(|x| x.is_nan()).count(), 4);
    assert!(recording.channel(0).nth(2) == Some(3.0) && recording.channel(1).nth(3) == Some(4.0));
}

#[test]
fn names_row_and_column_of_bad_cells() {
    let message = error_of("time,a,b\n0,1,2\n1,3,oops\n", &ReadOptions::default());
    assert_eq!(
        message,
        "`folder/test.csv`, row 3, column \"b\": expected a number, found \"oops\"; correct the cell or leave it empty"
    );
    // A quoted line break and an empty line count as lines of the file.
    let quoted = error_of("time,note,a\n0,\"x\ny\",1\n\n1,z,bad\n", &ReadOptions::default());
    assert!(quoted.contains("row 5, column \"a\""), "{quoted}");
    let short = error_of("time,a,b\n0,1,2\n1,3\n", &ReadOptions::default());
    assert!(short.contains("row 3: 2 cells") && short.contains("\"b\""), "{short}");
    let time = error_of("time,a\n2020-01-01 00:00,1\nsoon,2\n", &ReadOptions::default());
    assert!(time.contains("row 3, column \"time\": \"soon\""), "{time}");
    let given = ReadOptions {
        time_format: Some(TimeFormat::Iso),
        time: Choice::Column(Column::new("1")),
        ..at_rate(1.0)
    };
    let time = error_of("time,a\n2020-01-01 00:00,1\nsoon,2\n", &given);
    assert!(time.contains("row 3, column \"time\": \"soon\""), "{time}");
}

#[test]
fn names_the_row_where_the_clock_goes_backwards() {
    let text = "time,a\n2020-01-01 00:00:02,1\n2020-01-01 00:00:03,2\n2020-01-01 00:00:01,3\n2020-01-01 00:00:01,4\n";
    let message = error_of(text, &ReadOptions::default());
    assert!(
        message.contains("row 4")
            && message.contains("from 2020-01-01T00:00:03Z to 2020-01-01T00:00:01Z"),
        "{message}"
    );
    let (recording, report) =
        read_text(text, &ReadOptions { allow_clock_steps: true, ..ReadOptions::default() })
            .unwrap();
    assert_eq!(
        (recording.segment_starts, report.clock_steps, report.repeated_times),
        (vec![0, 2], 1, 1)
    );
}

#[test]
fn refuses_files_without_readings() {
    for (text, part) in [
        ("", "is empty"),
        ("\n\n", "is empty"),
        ("time,a\n", "is empty"),
        ("time,a\n0,1\n", "has 1 rows, but 2 are needed"),
        ("name,colour\nx,red\n", "no column of numbers"),
        ("time,a\n5,1\n5,2\n", "no time column"),
    ] {
        let message = error_of(text, &ReadOptions::default());
        assert!(message.contains(part), "{text:?}: {message}");
    }
    assert!(error_of("a\n1\n2\n", &at_rate(-1.0)).contains("-1"));
    let utf16 =
        read_csv_bytes("x.csv", b"\xff\xfea\0", &ReadOptions::default()).unwrap_err().to_string();
    assert!(utf16.contains("UTF-8"), "{utf16}");
    let missing = read(Path::new("no/such/file.csv"), &ReadOptions::default()).unwrap_err();
    assert!(missing.to_string().contains("no/such/file.csv"));
}

#[test]
fn survives_any_bytes() {
    let mut random = crate::random::Random::new(5);
    let alphabet = b"0123456789.,;-:/T \"\n\r\tabne\xff\xfe\0";
    for _ in 0..3000 {
        let len = random.below(120);
        let bytes: Vec<u8> =
            (0..len).map(|_| alphabet[random.below(alphabet.len() as u32) as usize]).collect();
        if let Ok((recording, _)) = read_csv_bytes("x", &bytes, &at_rate(1.0)) {
            assert_eq!(recording.samples.len(), recording.rows() * recording.channels.len());
            assert_eq!(recording.segment_starts.first(), Some(&0));
        }
    }
}

fn clips() -> Recording {
    let text: String = (0..40).map(|row| format!("{},{row},{}\n", row / 4, -row)).collect();
    read_text(&format!("clip,up,down\n{text}"), &at_rate(4.0)).unwrap().0
}

#[test]
fn slices_by_rows_time_and_clips() {
    let recording = clips();
    let part = recording.slice_rows(6..13);
    assert_eq!(part.segment_starts, [0, 2, 6]);
    assert_eq!(part.row(0), [6.0, -6.0]);
    assert_eq!(recording.slice_rows(38..99).rows(), 2);
    assert_eq!(recording.slice_rows(99..120).rows(), 0);
    assert!(recording.slice_rows(7..7).segment_starts.is_empty());
    let part = recording.slice_time(1_000_000..2_000_000);
    assert_eq!((part.rows(), part.row(0)[0], part.time_us[3]), (4, 4.0, 1_750_000));
    let first = recording.slice_clips(0.0..0.6);
    let last = recording.slice_clips(0.8..1.0);
    assert_eq!((first.rows(), first.segment_starts.len()), (24, 6));
    assert_eq!((last.rows(), last.row(0)[0]), (8, 32.0));
    assert_eq!(recording.slice_fraction(0.0..0.15).rows(), 6);
}

#[test]
fn selects_renames_and_appends() {
    let mut recording = clips();
    let mut down = recording.select(&[Column::new("2")]).unwrap();
    assert_eq!((down.channels[0].name.as_str(), down.samples[3]), ("down", -3.0));
    assert!(
        recording
            .append(&down)
            .unwrap_err()
            .to_string()
            .contains("has the channels down, but up, down")
    );
    down.rename(&Column::new("DOWN"), "depth").unwrap();
    assert_eq!(down.channels[0].name, "depth");
    assert!(down.rename(&Column::new("x"), "y").is_err());
    let mut other = clips();
    other.label_all(true);
    recording.append(&other).unwrap();
    assert_eq!((recording.rows(), recording.segment_starts.len()), (80, 20));
    assert_eq!(
        recording.labels.as_ref().map(|labels| (labels[39], labels[40])),
        Some((false, true))
    );
    // Both clocks start from 0; the second recording comes after the first.
    assert!(recording.time_us.windows(2).all(|pair| pair[1] - pair[0] == 250_000));
    assert!(recording.require_rows(80).is_ok());
    assert!(recording.require_rows(81).unwrap_err().to_string().contains("80 rows, but 81"));
}

#[test]
fn finds_constant_channels() {
    let (recording, _) = default_read("time,a,b,c\n0,1,5,\n1,1,6,\n2,,5,\n");
    let names: Vec<&str> =
        recording.constant_channels().iter().map(|channel| channel.name.as_str()).collect();
    assert_eq!(names, ["a", "c"]);
}

#[test]
fn makes_names_that_the_wire_admits() {
    assert_eq!(ChannelInfo::new("Volume Flow RateRMS", "").wire_name(), "Volume_Flow_RateRMS");
    assert_eq!(ChannelInfo::new("T [°C]", "").wire_name(), "T");
    assert_eq!(ChannelInfo::new("V(V) L1", "V").wire_name(), "V_V__L1");
    assert_eq!(ChannelInfo::new("°", "").wire_name(), "channel");
}

#[test]
fn labels_from_intervals_and_points() {
    let (mut recording, _) = default_read(
        "timestamp,value\n2020-01-01 00:00,1\n2020-01-01 00:05,2\n2020-01-01 00:10,3\n2020-01-01 00:15,4\n",
    );
    let json = r#"{"real/other_test.csv": [], "real/test.csv": [["2020-01-01 00:05:00.000000", "2020-01-01 00:10:00.000000"]]}"#;
    let file = Scratch::with("windows.json", json);
    recording.label_intervals(&read_intervals(&file.0, "test.csv").unwrap());
    assert_eq!(recording.labels, Some(vec![false, true, true, false]));
    assert_eq!(read_intervals(&file.0, "data/real/test.csv").unwrap().len(), 1);
    let message = read_intervals(&file.0, "nothing.csv").unwrap_err().to_string();
    assert!(message.contains("nothing.csv") && message.contains("real/test.csv"), "{message}");
    let points = Scratch::with("points.txt", "2020-01-01 00:06\n\n2020-02-01 00:00\n");
    assert_eq!(recording.label_points(&read_points(&points.0, "").unwrap()), 1);
    assert_eq!(recording.labels, Some(vec![false, true, false, false]));
    let listed = Scratch::with("points.json", r#"["2020-01-01 00:15:00"]"#);
    assert_eq!(recording.label_points(&read_points(&listed.0, "any").unwrap()), 0);
    assert_eq!(recording.anomalous_rows(), vec![3..4]);
    for (name, text) in [("a.json", "{"), ("b.json", "[1, 2]"), ("c.json", r#"[["x", "y"]]"#)] {
        assert!(read_intervals(&Scratch::with(name, text).0, "k").is_err(), "{text}");
    }
}

#[test]
fn writes_csv_and_parquet_that_read_back_alike() {
    let mut recording = clips();
    recording.channels[0].unit = "Cel".to_owned();
    recording.samples[5] = f32::NAN;
    recording.label_intervals(&[Interval { start_us: 1_000_000, end_us: 1_500_000 }]);
    let same = |found: &Recording| {
        assert_eq!(
            found.samples.iter().map(|x| x.to_bits()).collect::<Vec<_>>(),
            recording.samples.iter().map(|x| x.to_bits()).collect::<Vec<_>>()
        );
        assert_eq!((&found.time_us, &found.labels), (&recording.time_us, &recording.labels));
        assert_eq!((&found.segment_starts, found.rate_hz), (&recording.segment_starts, 4.0));
    };
    let csv = Scratch::new("back.csv");
    write_csv(&csv.0, &recording).unwrap();
    let options = ReadOptions { time_format: Some(TimeFormat::Iso), ..ReadOptions::default() };
    let (found, _) = read(&csv.0, &options).unwrap();
    same(&found);
    assert_eq!(found.channels[0], ChannelInfo::new("up [Cel]", "Cel"));
    let parquet = Scratch::new("back.parquet");
    write_parquet(&parquet.0, &recording).unwrap();
    let (found, report) = read(&parquet.0, &ReadOptions::default()).unwrap();
    same(&found);
    assert_eq!((&found.channels, &found.name), (&recording.channels, &recording.name));
    assert_eq!((report.rows, report.missing_cells[1]), (40, 1));
    let options = ReadOptions {
        rows: Some(6..13),
        channels: vec!["down".parse().unwrap()],
        ..ReadOptions::default()
    };
    let (part, _) = read(&parquet.0, &options).unwrap();
    assert_eq!(
        (part.segment_starts, part.samples[0], part.time_us[0]),
        (vec![0, 2, 6], -6.0, 1_500_000)
    );
}

/// A file as other programs write it: optional columns with holes, integers, text, two row groups.
fn write_foreign(path: &Path) {
    use parquet::data_type::{ByteArray, ByteArrayType, DoubleType, Int32Type, Int64Type};
    let schema = "message table {
        optional int64 timestamp (TIMESTAMP(MILLIS, true));
        optional double level;
        required int32 count;
        optional binary note (UTF8);
        required int32 anomaly;
        repeated int32 nested;
    }";
    let schema = parquet::schema::parser::parse_message_type(schema).unwrap();
    let out = std::fs::File::create(path).unwrap();
    let mut writer =
        parquet::file::writer::SerializedFileWriter::new(out, schema.into(), Default::default())
            .unwrap();
    for group in 0..2 {
        let mut rows = writer.next_row_group().unwrap();
        let times: Vec<i64> =
            (0..3).map(|row| 1_577_836_800_000 + (group * 3 + row) * 500).collect();
        let mut column = rows.next_column().unwrap().unwrap();
        column.typed::<Int64Type>().write_batch(&times, Some(&[1, 1, 1]), None).unwrap();
        column.close().unwrap();
        let mut column = rows.next_column().unwrap().unwrap();
        column.typed::<DoubleType>().write_batch(&[1.5, 2.5], Some(&[1, 0, 1]), None).unwrap();
        column.close().unwrap();
        let mut column = rows.next_column().unwrap().unwrap();
        column.typed::<Int32Type>().write_batch(&[1, 2, 3], None, None).unwrap();
        column.close().unwrap();
        let mut column = rows.next_column().unwrap().unwrap();
        column
            .typed::<ByteArrayType>()
            .write_batch(&[ByteArray::from("x")], Some(&[0, 1, 0]), None)
            .unwrap();
        column.close().unwrap();
        let mut column = rows.next_column().unwrap().unwrap();
        column
            .typed::<Int32Type>()
            .write_batch(&[0, 0, i32::from(group == 1)], None, None)
            .unwrap();
        column.close().unwrap();
        let mut column = rows.next_column().unwrap().unwrap();
        column.typed::<Int32Type>().write_batch(&[7], Some(&[0, 1, 0]), Some(&[0, 0, 0])).unwrap();
        column.close().unwrap();
        rows.close().unwrap();
    }
    writer.close().unwrap();
}

#[test]
fn reads_parquet_of_other_programs() {
    let file = Scratch::new("foreign.parquet");
    write_foreign(&file.0);
    let (recording, report) = read(&file.0, &ReadOptions::default()).unwrap();
    let names: Vec<&str> = recording.channels.iter().map(|channel| channel.name.as_str()).collect();
    assert_eq!(names, ["level", "count"]);
    assert_eq!((recording.rate_hz, recording.time_us[0]), (2.0, read_any("2020-01-01").unwrap()));
    assert_eq!(recording.labels, Some(vec![false, false, false, false, false, true]));
    assert_eq!(report.missing_cells, [2, 0]);
    assert_eq!((report.skipped_columns.len(), recording.row(2)), (2, &[2.5, 3.0][..]));
    let options = ReadOptions { channels: vec!["note".parse().unwrap()], ..ReadOptions::default() };
    let message = read(&file.0, &options).unwrap_err().to_string();
    assert!(
        message.contains("row 2, column \"note\": expected a number, found \"x\""),
        "{message}"
    );
    let options =
        ReadOptions { channels: vec!["nested".parse().unwrap()], ..ReadOptions::default() };
    assert!(matches!(read(&file.0, &options), Err(DatasetError::Text { .. })));
}

#[test]
fn survives_parquet_with_flipped_bytes() {
    let file = Scratch::new("flipped.parquet");
    write_foreign(&file.0);
    let good = std::fs::read(&file.0).unwrap();
    let mut random = crate::random::Random::new(11);
    for _ in 0..200 {
        let mut bytes = good.clone();
        let at = random.below(bytes.len() as u32) as usize;
        bytes[at] ^= 1 << random.below(8);
        std::fs::write(&file.0, &bytes).unwrap();
        if let Ok((recording, _)) = read(&file.0, &ReadOptions::default()) {
            assert_eq!(recording.samples.len(), recording.rows() * recording.channels.len());
        }
    }
    std::fs::write(&file.0, &good[..good.len() / 2]).unwrap();
    assert!(read(&file.0, &ReadOptions::default()).is_err());
}

#[test]
fn refuses_parquet_that_is_none() {
    let file = Scratch::with("broken.parquet", "time,a\n1,2\n");
    assert!(
        read(&file.0, &ReadOptions::default())
            .unwrap_err()
            .to_string()
            .contains("not readable as Parquet")
    );
    let file = Scratch::with("empty.parquet", "");
    assert!(matches!(read(&file.0, &ReadOptions::default()), Err(DatasetError::Empty { .. })));
}

#[test]
fn names_columns_that_are_found_first_by_name() {
    let names = ["3", "b", "B"];
    assert_eq!(Column::new("3").find(&names), Some(0));
    assert_eq!(Column::new("B").find(&names), Some(2));
    assert_eq!(Column::new("2").find(&names), Some(1));
    assert_eq!(Column::new("0").find(&names), None);
    assert_eq!(Column::new("4").find(&names), None);
}

/// A text that is cut into parts: some megabytes, with empty lines and, if asked for, quotes.
fn large_text(quote: &str, rows: usize) -> String {
    let mut text = format!("{quote}time{quote},a,b\n");
    for row in 0..rows {
        text += &format!("{row},{}.25,{}\n", row % 977, row % 13);
        if row % 50_000 == 7 {
            text.push('\n');
        }
    }
    text
}

#[test]
fn a_large_text_read_in_parts_is_the_text_read_at_once() {
    let rows = 300_000;
    let (in_parts, parts_report) = default_read(&large_text("", rows));
    let (at_once, once_report) = default_read(&large_text("\"", rows));
    assert_eq!(in_parts.rows(), rows);
    assert!(in_parts == at_once);
    assert_eq!(parts_report, once_report);
}

#[test]
fn an_error_in_a_later_part_names_its_line() {
    for quote in ["", "\""] {
        let text = large_text(quote, 300_000) + "300000,1,oops\n";
        let line = text.lines().count();
        let said = error_of(&text, &ReadOptions::default());
        assert!(said.contains(&format!("row {line}, column \"b\"")), "{said}");
    }
}
