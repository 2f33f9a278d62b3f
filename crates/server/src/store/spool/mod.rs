//! Keeps messages on disk while the database is away: a queue of checksummed frames in numbered
//! segment files, bounded in bytes.
//!
//! A message is in the spool once [`Spool::push_all`] has returned: it was written and synced. It
//! stays until [`Spool::consume`] says that the database has it. A crash in the middle of a write
//! leaves a torn frame at the end, which nobody was told to be stored; it is cut off when the
//! spool is opened. A crash between the database's commit and [`Spool::consume`] brings one batch
//! to the database again, which knows its messages by their keys.
//!
//! | file | content |
//! |---|---|
//! | `00000000000000000007.spool` | frames ([`frame`]), oldest first |
//! | `position` | u64 segment, u64 offset, as text: what the database has up to here |
//! | `*.spool.damaged` | a segment with bytes that are no frames, kept for whoever looks into it |
//! | `set-aside` | frames of messages that the database refused |
//! | `lock` | locked while a server uses the spool |

mod frame;
pub(super) mod packed;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tracing::{error, info, warn};

use self::frame::Found;
use super::Message;
use crate::limits::{SPOOL_FRAME_LEN_MAX, SPOOL_SEGMENT_LEN};

const SUFFIX: &str = ".spool";

/// Why a message is not in the spool.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// It has no room.
    #[error("the spool is full ({bytes_max} bytes); bring the database back")]
    Full {
        /// The most bytes that it takes.
        bytes_max: u64,
    },
    /// The message is longer than the longest frame.
    #[error("the message is too long for the spool")]
    TooLong,
    /// Another server uses it.
    #[error("the spool is in use by another server; give each its own folder with --data")]
    InUse,
    /// The disk failed.
    #[error("the spool cannot be used: {0}; look at the disk")]
    Disk(#[from] io::Error),
}

/// What the spool holds and did, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpoolStatus {
    /// Messages that wait for the database.
    pub messages: u64,
    /// Their bytes on disk.
    pub bytes: u64,
    /// The most bytes that it takes.
    pub bytes_max: u64,
    /// Messages that were put in since the start.
    pub spooled: u64,
    /// Messages that reached the database from here since the start.
    pub drained: u64,
    /// Messages that found no room, or a disk that failed, since the start.
    pub refused: u64,
}

/// The figures of a spool, readable while it works.
#[derive(Debug, Default)]
pub(super) struct Gauge {
    messages: AtomicU64,
    bytes: AtomicU64,
    bytes_max: AtomicU64,
    spooled: AtomicU64,
    drained: AtomicU64,
    refused: AtomicU64,
}

impl Gauge {
    pub(super) fn status(&self) -> SpoolStatus {
        let of = |value: &AtomicU64| value.load(Ordering::Relaxed);
        SpoolStatus {
            messages: of(&self.messages),
            bytes: of(&self.bytes),
            bytes_max: of(&self.bytes_max),
            spooled: of(&self.spooled),
            drained: of(&self.drained),
            refused: of(&self.refused),
        }
    }
}

/// A place between two frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    segment: u64,
    offset: u64,
    /// Messages between the place read from and this one.
    messages: u64,
}

#[derive(Debug)]
struct Segment {
    number: u64,
    /// The bytes that are frames.
    len: u64,
    /// Whether there are bytes behind them that somebody may want to see.
    damaged: bool,
}

/// The queue on disk.
#[derive(Debug)]
pub(super) struct Spool {
    folder: PathBuf,
    bytes_max: u64,
    /// Oldest first.
    segments: VecDeque<Segment>,
    /// Writes to the last segment.
    writer: Option<File>,
    next_number: u64,
    /// What the database has, in the first segment.
    offset: u64,
    gauge: Arc<Gauge>,
    _lock: File,
}

impl Spool {
    /// Opens the spool of a folder, and creates it when missing.
    pub(super) fn open(folder: &Path, bytes_max: u64) -> Result<Self, SpoolError> {
        create_private(folder)?;
        let lock =
            File::options().create(true).truncate(false).write(true).open(folder.join("lock"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Err(SpoolError::InUse),
            Err(fs::TryLockError::Error(error)) => return Err(error.into()),
        }
        let mut numbers = segment_numbers(folder)?;
        numbers.sort_unstable();
        let mut spool = Self {
            folder: folder.to_owned(),
            bytes_max,
            segments: VecDeque::new(),
            writer: None,
            next_number: numbers.last().map_or(1, |last| last + 1),
            offset: 0,
            gauge: Arc::default(),
            _lock: lock,
        };
        spool.gauge.bytes_max.store(bytes_max, Ordering::Relaxed);
        spool.recover(&numbers)?;
        Ok(spool)
    }

    /// Returns the figures.
    pub(super) fn gauge(&self) -> &Arc<Gauge> {
        &self.gauge
    }

    /// Tells whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.gauge.messages.load(Ordering::Relaxed) == 0
    }

    /// Puts messages at the end, all or none; they are on disk when this returns.
    pub(super) fn push_all<'a>(
        &mut self,
        messages: impl IntoIterator<Item = &'a Message>,
    ) -> Result<(), SpoolError> {
        let (mut bytes, mut count) = (Vec::new(), 0);
        for message in messages {
            frame::push(&mut bytes, message).ok_or(SpoolError::TooLong)?;
            count += 1;
        }
        let held = self.gauge.bytes.load(Ordering::Relaxed);
        let written = if held + bytes.len() as u64 > self.bytes_max {
            Err(SpoolError::Full { bytes_max: self.bytes_max })
        } else {
            self.write(&bytes).map_err(SpoolError::Disk)
        };
        match &written {
            Ok(()) => {
                self.gauge.messages.fetch_add(count, Ordering::Relaxed);
                self.gauge.bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                self.gauge.spooled.fetch_add(count, Ordering::Relaxed);
            }
            Err(_) => {
                self.gauge.refused.fetch_add(count, Ordering::Relaxed);
            }
        }
        written
    }

    /// Reads the oldest messages, no more than `messages_max`, and the place behind them.
    pub(super) fn peek(
        &mut self,
        messages_max: usize,
    ) -> Result<(Vec<Message>, Position), SpoolError> {
        let mut messages = Vec::new();
        while let Some(first) = self.segments.front() {
            let number = first.number;
            if self.offset >= first.len {
                self.drop_first()?;
                continue;
            }
            let len = (first.len - self.offset).min(READ_LEN) as usize;
            let mut bytes = vec![0; len];
            let mut file = File::open(self.path(number))?;
            file.seek(SeekFrom::Start(self.offset))?;
            file.read_exact(&mut bytes)?;
            let mut at = 0;
            while messages.len() < messages_max {
                let Found::Message(message, len) = frame::read(&bytes[at..]) else {
                    break;
                };
                messages.push(*message);
                at += len;
            }
            if messages.is_empty() {
                self.give_up(number);
                continue;
            }
            let position = Position {
                segment: number,
                offset: self.offset + at as u64,
                messages: messages.len() as u64,
            };
            return Ok((messages, position));
        }
        // Nothing is left, whatever was counted of segments that went bad.
        self.gauge.messages.store(0, Ordering::Relaxed);
        Ok((messages, Position { segment: 0, offset: 0, messages: 0 }))
    }

    /// Forgets everything before a place that [`Spool::peek`] gave: the database has it.
    pub(super) fn consume(&mut self, position: Position) -> Result<(), SpoolError> {
        let Some(first) = self.segments.front().filter(|first| first.number == position.segment)
        else {
            return Ok(());
        };
        let done = position.offset >= first.len;
        let bytes = position.offset.saturating_sub(self.offset);
        self.offset = position.offset;
        lower(&self.gauge.messages, position.messages);
        lower(&self.gauge.bytes, bytes);
        self.gauge.drained.fetch_add(position.messages, Ordering::Relaxed);
        if done {
            self.drop_first()?;
        } else {
            self.keep_position(position)?;
        }
        Ok(())
    }

    /// Keeps a message that the database does not take, for whoever looks into it.
    pub(super) fn set_aside(&mut self, message: &Message) -> Result<(), SpoolError> {
        let mut bytes = Vec::new();
        frame::push(&mut bytes, message).ok_or(SpoolError::TooLong)?;
        let mut options = OpenOptions::new();
        options.create(true).append(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(self.folder.join("set-aside"))?;
        file.write_all(&bytes)?;
        Ok(file.sync_data()?)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let full = self.segments.back().is_none_or(|last| last.len >= SPOOL_SEGMENT_LEN);
        if full || self.writer.is_none() {
            self.begin_segment()?;
        }
        let (Some(writer), Some(last)) = (self.writer.as_mut(), self.segments.back_mut()) else {
            return Err(io::Error::other("no segment"));
        };
        if let Err(error) = writer.write_all(bytes).and_then(|()| writer.sync_data()) {
            // What a failed sync left behind is unknown, so that nothing is written behind it.
            let _ = writer.set_len(last.len);
            self.writer = None;
            return Err(error);
        }
        last.len += bytes.len() as u64;
        Ok(())
    }

    fn begin_segment(&mut self) -> io::Result<()> {
        self.writer = None;
        // A segment of which nothing could be written is of no use.
        if let Some(last) = self.segments.back().filter(|last| last.len == 0) {
            let _ = fs::remove_file(self.path(last.number));
            self.segments.pop_back();
        }
        let number = self.next_number;
        let mut options = OpenOptions::new();
        options.create_new(true).append(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(self.path(number))?;
        self.next_number += 1;
        // The name of a new file must survive a power cut as well.
        sync_folder(&self.folder)?;
        self.segments.push_back(Segment { number, len: 0, damaged: false });
        self.writer = Some(file);
        Ok(())
    }

    /// Finds the frames that are there.
    fn recover(&mut self, numbers: &[u64]) -> Result<(), SpoolError> {
        let kept = fs::read_to_string(self.folder.join(POSITION)).ok();
        let position = kept.as_deref().and_then(parse_position);
        for (index, &number) in numbers.iter().enumerate() {
            let from = match position {
                Some((segment, _)) if number < segment => {
                    fs::remove_file(self.path(number))?;
                    continue;
                }
                Some((segment, offset)) if number == segment => offset,
                _ => 0,
            };
            let bytes = fs::read(self.path(number))?;
            let from = (from as usize).min(bytes.len());
            let (frames, at, sound) = scan(&bytes, from);
            let rest = bytes.len() - at;
            let torn = index + 1 == numbers.len() && sound;
            if rest > 0 && torn {
                warn!(segment = number, bytes = rest, "cut a torn write off the spool");
            } else if rest > 0 {
                error!(segment = number, bytes = rest, "a part of the spool is not readable");
            }
            self.gauge.messages.fetch_add(frames, Ordering::Relaxed);
            self.gauge.bytes.fetch_add((at - from) as u64, Ordering::Relaxed);
            let damaged = rest > 0 && !torn;
            self.segments.push_back(Segment { number, len: at as u64, damaged });
            if self.segments.len() == 1 {
                self.offset = from as u64;
            }
        }
        let waiting = self.gauge.messages.load(Ordering::Relaxed);
        if waiting > 0 {
            info!(messages = waiting, "the spool holds messages for the database");
        }
        Ok(())
    }

    /// Ends the first segment: it is read, or nothing more of it can be.
    fn drop_first(&mut self) -> Result<(), SpoolError> {
        let Some(first) = self.segments.pop_front() else {
            return Ok(());
        };
        if self.segments.is_empty() {
            self.writer = None;
        }
        self.offset = 0;
        let path = self.path(first.number);
        if first.damaged {
            fs::rename(&path, path.with_extension("spool.damaged"))?;
        } else {
            fs::remove_file(&path)?;
        }
        let next = self.segments.front().map_or(self.next_number, |next| next.number);
        self.keep_position(Position { segment: next, offset: 0, messages: 0 })
    }

    /// Notes that the rest of the first segment went bad after it was written.
    fn give_up(&mut self, number: u64) {
        error!(segment = number, offset = self.offset, "a part of the spool is not readable");
        if let Some(first) = self.segments.front_mut() {
            lower(&self.gauge.bytes, first.len - self.offset);
            first.len = self.offset;
            first.damaged = true;
        }
    }

    fn keep_position(&self, position: Position) -> Result<(), SpoolError> {
        let temporary = self.folder.join("position.new");
        let mut file = File::create(&temporary)?;
        writeln!(file, "{} {}", position.segment, position.offset)?;
        file.sync_data()?;
        fs::rename(&temporary, self.folder.join(POSITION))?;
        Ok(())
    }

    fn path(&self, number: u64) -> PathBuf {
        self.folder.join(format!("{number:020}{SUFFIX}"))
    }
}

const POSITION: &str = "position";
/// At least one whole frame.
const READ_LEN: u64 = (SPOOL_FRAME_LEN_MAX + frame::HEADER_LEN) as u64;

/// Counts the frames from a place on: how many, where they end, and whether what follows may be a
/// write that was cut short.
fn scan(bytes: &[u8], from: usize) -> (u64, usize, bool) {
    let (mut frames, mut at) = (0, from);
    loop {
        match frame::read(&bytes[at..]) {
            Found::Message(_, len) => {
                frames += 1;
                at += len;
            }
            Found::End => return (frames, at, true),
            Found::Damaged => {
                // A file system may lengthen a file before it writes the bytes.
                let blank = bytes[at..].iter().all(|&byte| byte == 0);
                return (frames, at, blank);
            }
        }
    }
}

fn parse_position(text: &str) -> Option<(u64, u64)> {
    let (segment, offset) = text.strip_suffix('\n')?.split_once(' ')?;
    Some((segment.parse().ok()?, offset.parse().ok()?))
}

fn segment_numbers(folder: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let number: Option<u64> =
            name.to_str().and_then(|name| name.strip_suffix(SUFFIX)?.parse().ok());
        numbers.extend(number);
    }
    Ok(numbers)
}

fn lower(counter: &AtomicU64, by: u64) {
    let less = |value: u64| Some(value.saturating_sub(by));
    let _ = counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

/// Creates a folder, and those above it, that only its owner can look into.
fn create_private(folder: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}
