//! The updater of one component: receives a release into the slot that does not run, checks it,
//! switches to it, and keeps it or goes back.
//!
//! ```text
//! idle ─ offer ─ receiving ─ all chunks ─ verifying ─ digest fits ─ staged ─ switch ─ trial ─ confirm ─ confirmed
//!                    │                        │                       │                │
//!                    └────────────────────────┴───── refused ─────────┘           rolled back
//! ```
//!
//! Each state but idle has a time limit or an end that is reported; each way out of the row has a
//! [`Reason`]. The slot that runs is never written. Every step is one record of the journal, so
//! that a power cut leaves either the state before it or the one behind it.
//!
//! An updater has no clock, flash or keys of its own: the caller passes them in. It keeps none of
//! the image in memory but the chunk that just came.

use core::ops::Range;

use embedded_storage::nor_flash::MultiwriteNorFlash;
use sha2::{Digest, Sha256};

use super::journal::{Journal, Record, State};
use super::slots::{Layout, Slot};
use super::transfer::{Chunk, Status, WANTED_LEN};
use super::{Component, Device, Hash, KeyDocument, Reason, ReleaseId, SignedManifest, tree};
use crate::limits::{
    RELEASE_CHUNK_LEN, RELEASE_DOCUMENT_LEN_MAX, UPDATE_RECEIVING_TIME_MAX_MS,
    UPDATE_STAGED_TIME_MAX_MS, UPDATE_STATUS_CHUNKS, UPDATE_STATUS_TIME_MS, UPDATE_TRIAL_BOOTS_MAX,
    UPDATE_TRIAL_TIME_MAX_MS, UPDATE_VERIFYING_TIME_MAX_MS, UPDATE_WINDOW_LEN,
};

/// What an updater is told once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// What it updates.
    pub component: Component,
    /// Where that lives in flash.
    pub layout: Layout,
    /// The sequence number of what the device was made with, which no manifest describes; 0 for
    /// none.
    pub factory_sequence: u64,
}

/// What [`Updater::step`] has led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Nothing that the device must act on.
    Nothing,
    /// The release is whole: [`Updater::switch`] when it suits the device.
    Staged,
    /// The trial has failed: the slot that is to run is the other one again.
    RolledBack,
}

/// The release on its way into the slot that does not run.
#[derive(Clone, Copy, Debug)]
struct Arriving {
    image_len: u32,
    root: Hash,
    digest: Hash,
    missing: u32,
}

impl Arriving {
    fn new(signed: &SignedManifest<'_>, missing: u32) -> Self {
        let manifest = &signed.manifest;
        let (root, digest) = (*manifest.root, *manifest.digest);
        Self { image_len: manifest.image_len, root, digest, missing }
    }

    fn count(&self) -> u32 {
        tree::chunk_count(self.image_len)
    }
}

/// The updater of one component.
///
/// After [`Updater::load`] the device calls [`Updater::count_start`] and runs that slot; if the
/// state is [`State::Staged`], it may switch at once.
#[derive(Clone, Debug)]
pub struct Updater {
    config: Config,
    journal: Journal,
    record: Record,
    arriving: Option<Arriving>,
    /// The release that runs and its sequence number; `None` for what the device was made with.
    running: Option<(ReleaseId, u64)>,
    hash: Sha256,
    hashed: u32,
    since_ms: u64,
    refused: Option<(ReleaseId, Reason)>,
    reported_ms: Option<u64>,
    chunks_since: u8,
}

impl Updater {
    /// Reads where it was when the device was last switched off, and goes on from there.
    ///
    /// # Errors
    /// [`Reason::Flash`], also if the flash is none that the layout fits.
    pub fn load<F: MultiwriteNorFlash>(
        config: Config,
        flash: &mut F,
        now_ms: u64,
    ) -> Result<Self, Reason> {
        if !config.layout.fits(flash) {
            return Err(Reason::Flash);
        }
        let (journal, record) = Journal::load(config.layout.journal, flash)?;
        let mut updater = Self {
            config,
            journal,
            record: record.unwrap_or_default(),
            arriving: None,
            running: None,
            hash: Sha256::new(),
            hashed: 0,
            since_ms: now_ms,
            refused: None,
            reported_ms: None,
            chunks_since: 0,
        };
        updater.running = updater.find_running(flash, updater.record.active)?;
        if updater.record.state.is_arriving() {
            updater.resume(flash, now_ms)?;
        }
        Ok(updater)
    }

    fn resume<F: MultiwriteNorFlash>(&mut self, flash: &mut F, now_ms: u64) -> Result<(), Reason> {
        let mut buffer = [0; RELEASE_DOCUMENT_LEN_MAX];
        let slot = self.other_slot::<F>();
        let signed = slot.manifest(flash, &mut buffer)?.map(SignedManifest::parse);
        let Some(Ok(signed)) = signed.filter(|signed| self.is_current(signed)) else {
            return self.end(flash, State::Refused, Reason::Interrupted, now_ms);
        };
        let missing = slot.missing_in(flash, 0..signed.manifest.chunk_count())?;
        self.arriving = Some(Arriving::new(&signed, missing));
        // The last chunk may have been marked just before the power was cut.
        if self.record.state == State::Receiving && missing == 0 {
            self.enter(flash, Record { state: State::Verifying, ..self.record }, now_ms)?;
        }
        Ok(())
    }

    fn is_current(&self, signed: &Result<SignedManifest<'_>, Reason>) -> bool {
        signed.is_ok_and(|signed| signed.id == self.record.release)
    }

    /// Counts a start of the device, and returns the slot that is to run, 0 or 1: after
    /// [`UPDATE_TRIAL_BOOTS_MAX`] starts on trial, the one before.
    ///
    /// It is called once at each start, before anything of the new release can fail.
    ///
    /// # Errors
    /// [`Reason::Flash`]; the device then runs [`Updater::active`].
    pub fn count_start<F: MultiwriteNorFlash>(
        &mut self,
        flash: &mut F,
        now_ms: u64,
    ) -> Result<usize, Reason> {
        if self.record.state == State::Trial {
            if self.record.boots >= UPDATE_TRIAL_BOOTS_MAX {
                self.fail(flash, Reason::TrialBoots, now_ms)?;
            } else {
                let boots = self.record.boots + 1;
                self.enter(flash, Record { boots, ..self.record }, now_ms)?;
            }
        }
        Ok(self.active())
    }

    /// Returns the slot that is to run, 0 or 1.
    #[must_use]
    pub fn active(&self) -> usize {
        usize::from(self.record.active)
    }

    /// Returns the state.
    #[must_use]
    pub fn state(&self) -> State {
        self.record.state
    }

    /// Returns why the last release did not stay, until that was reported.
    #[must_use]
    pub fn reason(&self) -> Option<Reason> {
        self.record.reason
    }

    /// Returns the release that the state speaks of; of a device that never had one, zeros.
    #[must_use]
    pub fn release(&self) -> ReleaseId {
        self.record.release
    }

    /// Returns the component.
    #[must_use]
    pub fn component(&self) -> Component {
        self.config.component
    }

    /// Returns the sequence number of what runs.
    #[must_use]
    pub fn running_sequence(&self) -> u64 {
        self.running.map_or(self.config.factory_sequence, |running| running.1)
    }

    /// Returns where the image of a slot stands in flash, if the slot has a manifest; for the slot
    /// that does not run, only once it is staged.
    ///
    /// # Errors
    /// [`Reason::Flash`].
    pub fn image<F: MultiwriteNorFlash>(
        &self,
        flash: &mut F,
        slot: usize,
    ) -> Result<Option<Range<u32>>, Reason> {
        if slot != self.active() && self.record.state != State::Staged {
            return Ok(None);
        }
        let mut buffer = [0; RELEASE_DOCUMENT_LEN_MAX];
        let place = self.config.layout.slot::<F>(slot);
        let document = place.manifest(flash, &mut buffer)?;
        let len = document
            .and_then(|document| SignedManifest::parse(document).ok())
            .map(|signed| signed.manifest.image_len.min(place.image.len));
        Ok(len.map(|len| place.image.start..place.image.start + len))
    }

    /// Takes a manifest, and begins to receive its release, or goes on with it.
    ///
    /// # Errors
    /// Why the release is not taken; the state stays as it is, and the next status says so.
    pub fn offer<F: MultiwriteNorFlash>(
        &mut self,
        flash: &mut F,
        keys: &KeyDocument<'_>,
        device: &Device<'_>,
        signed: &SignedManifest<'_>,
        document: &[u8],
        now_ms: u64,
    ) -> Result<(), Reason> {
        let taken = self.admit(flash, keys, device, signed, document, now_ms);
        self.answer(signed.id, taken)
    }

    fn admit<F: MultiwriteNorFlash>(
        &mut self,
        flash: &mut F,
        keys: &KeyDocument<'_>,
        device: &Device<'_>,
        signed: &SignedManifest<'_>,
        document: &[u8],
        now_ms: u64,
    ) -> Result<(), Reason> {
        let state = self.record.state;
        let (manifest, release) = (&signed.manifest, signed.id);
        if manifest.component != self.config.component {
            return Err(Reason::OtherComponent);
        }
        if state.is_arriving() && release == self.record.release {
            return Ok(());
        }
        if state == State::Trial || state.is_final() {
            return Err(Reason::Busy);
        }
        self.authorise(keys, device, signed)?;
        let slot = self.other_slot::<F>();
        if manifest.image_len > slot.image.len {
            return Err(Reason::TooBig);
        }
        if state.is_arriving() {
            // A newer release takes the place of one on its way.
            if manifest.sequence <= self.record.sequence {
                return Err(Reason::Busy);
            }
            self.enter(flash, Record { state: State::Idle, ..self.record }, now_ms)?;
        }
        slot.begin(flash, document)?;
        let record = Record {
            state: State::Receiving,
            release,
            sequence: manifest.sequence,
            reason: None,
            boots: 0,
            ..self.record
        };
        self.enter(flash, record, now_ms)?;
        self.arriving = Some(Arriving::new(signed, manifest.chunk_count()));
        Ok(())
    }

    /// Checks a release's signature, and that this device may take it.
    fn authorise(
        &self,
        keys: &KeyDocument<'_>,
        device: &Device<'_>,
        signed: &SignedManifest<'_>,
    ) -> Result<(), Reason> {
        signed.verify(keys)?;
        if self.running.is_some_and(|running| running.0 == signed.id) {
            return Err(Reason::Running);
        }
        signed.manifest.check(device, self.record.highest.max(self.config.factory_sequence))
    }

    /// Takes a chunk, in whatever order they come; one that is there already is passed over.
    ///
    /// # Errors
    /// Why it is not taken; it is still wanted then, and the next status says why.
    pub fn chunk<F: MultiwriteNorFlash>(
        &mut self,
        flash: &mut F,
        chunk: &Chunk<'_>,
        now_ms: u64,
    ) -> Result<(), Reason> {
        let taken = self.take_chunk(flash, chunk, now_ms);
        if taken.is_err() { self.answer(chunk.release, taken) } else { Ok(()) }
    }

    fn take_chunk<F: MultiwriteNorFlash>(
        &mut self,
        flash: &mut F,
        chunk: &Chunk<'_>,
        now_ms: u64,
    ) -> Result<(), Reason> {
        let current = chunk.release == self.record.release;
        let Some(arriving) = self.arriving.as_mut().filter(|_| current) else {
            return Err(Reason::UnknownRelease);
        };
        let (index, count) = (chunk.index, arriving.count());
        if index >= count || chunk.bytes.len() != tree::chunk_len(arriving.image_len, index) {
            return Err(Reason::WrongChunk);
        }
        let slot = self.config.layout.slot::<F>(1 - usize::from(self.record.active));
        if slot.missing_in(flash, index..index + 1)? == 0 {
            return Ok(());
        }
        let leaf = tree::leaf(chunk.bytes);
        if !tree::verify(&arriving.root, count, index, leaf, chunk.proof) {
            return Err(Reason::WrongProof);
        }
        slot.write_chunk(flash, index, chunk.bytes)?;
        arriving.missing = arriving.missing.saturating_sub(1);
        self.chunks_since = self.chunks_since.saturating_add(1);
        self.since_ms = now_ms;
        if arriving.missing == 0 {
            self.enter(flash, Record { state: State::Verifying, ..self.record }, now_ms)?;
        }
        Ok(())
    }

    /// Goes on with what takes time, one chunk at a time, and ends what has taken too long. The
    /// device calls it whenever it has nothing better to do, and at least once a second.
    ///
    /// # Errors
    /// [`Reason::Flash`]; it can be called again.
    pub fn step<F: MultiwriteNorFlash>(
        &mut self,
        flash: &mut F,
        now_ms: u64,
    ) -> Result<Event, Reason> {
        let (limit_ms, reason) = match self.record.state {
            State::Receiving => (UPDATE_RECEIVING_TIME_MAX_MS, Reason::ReceivingTimeout),
            State::Verifying => (UPDATE_VERIFYING_TIME_MAX_MS, Reason::VerifyingTimeout),
            State::Staged => (UPDATE_STAGED_TIME_MAX_MS, Reason::StagedTimeout),
            State::Trial => (UPDATE_TRIAL_TIME_MAX_MS, Reason::TrialTimeout),
            State::Idle | State::Confirmed | State::RolledBack | State::Refused => {
                return Ok(Event::Nothing);
            }
        };
        if now_ms.saturating_sub(self.since_ms) >= limit_ms {
            self.fail(flash, reason, now_ms)?;
            let back = self.record.state == State::RolledBack;
            return Ok(if back { Event::RolledBack } else { Event::Nothing });
        }
        match self.arriving {
            Some(arriving) if self.record.state == State::Verifying => {
                self.hash_chunk(flash, &arriving, now_ms)
            }
            _ => Ok(Event::Nothing),
        }
    }

    fn hash_chunk<F: MultiwriteNorFlash>(
        &mut self,
        flash: &mut F,
        arriving: &Arriving,
        now_ms: u64,
    ) -> Result<Event, Reason> {
        if self.hashed < arriving.count() {
            let image = self.other_slot::<F>().image;
            let mut chunk = [0; RELEASE_CHUNK_LEN];
            let at = image.start + self.hashed * RELEASE_CHUNK_LEN as u32;
            flash.read(at, &mut chunk).map_err(|_| Reason::Flash)?;
            self.hash.update(&chunk[..tree::chunk_len(arriving.image_len, self.hashed)]);
            self.hashed += 1;
            return Ok(Event::Nothing);
        }
        let digest: Hash = self.hash.clone().finalize().into();
        if digest != arriving.digest {
            self.end(flash, State::Refused, Reason::WrongDigest, now_ms)?;
            return Ok(Event::Nothing);
        }
        self.enter(flash, Record { state: State::Staged, ..self.record }, now_ms)?;
        Ok(Event::Staged)
    }

    /// Switches to the staged release, on trial, after its signature and all that it needs were
    /// checked again. Returns the slot that is to run: the device swaps its detector, or restarts.
    ///
    /// # Errors
    /// Why the release was given up, or [`Reason::Flash`] or [`Reason::WrongState`].
    pub fn switch<F: MultiwriteNorFlash>(
        &mut self,
        flash: &mut F,
        keys: &KeyDocument<'_>,
        device: &Device<'_>,
        now_ms: u64,
    ) -> Result<usize, Reason> {
        if self.record.state != State::Staged {
            return Err(Reason::WrongState);
        }
        let mut buffer = [0; RELEASE_DOCUMENT_LEN_MAX];
        let document = self.other_slot::<F>().manifest(flash, &mut buffer)?;
        let signed = document.map(SignedManifest::parse).filter(|signed| self.is_current(signed));
        let authorised = match signed {
            Some(Ok(signed)) => self.authorise(keys, device, &signed),
            _ => Err(Reason::Interrupted),
        };
        if let Err(reason) = authorised {
            self.end(flash, State::Refused, reason, now_ms)?;
            return Err(reason);
        }
        let active = 1 - self.record.active;
        self.enter(flash, Record { state: State::Trial, active, boots: 0, ..self.record }, now_ms)?;
        self.running = Some((self.record.release, self.record.sequence));
        Ok(self.active())
    }

    /// Keeps the release on trial: the device was found healthy with it.
    ///
    /// # Errors
    /// [`Reason::WrongState`] or [`Reason::Flash`].
    pub fn confirm<F: MultiwriteNorFlash>(
        &mut self,
        flash: &mut F,
        now_ms: u64,
    ) -> Result<(), Reason> {
        if self.record.state != State::Trial {
            return Err(Reason::WrongState);
        }
        let highest = self.record.highest.max(self.record.sequence);
        self.enter(flash, Record { state: State::Confirmed, highest, ..self.record }, now_ms)
    }

    /// Gives up the release that is on its way, or goes back from the one on trial; then the slot
    /// that is to run ([`Updater::active`]) is the other one again.
    ///
    /// # Errors
    /// [`Reason::WrongState`] or [`Reason::Flash`].
    pub fn fail<F: MultiwriteNorFlash>(
        &mut self,
        flash: &mut F,
        reason: Reason,
        now_ms: u64,
    ) -> Result<(), Reason> {
        match self.record.state {
            State::Trial => self.end(flash, State::RolledBack, reason, now_ms),
            state if state.is_arriving() => self.end(flash, State::Refused, reason, now_ms),
            _ => Err(Reason::WrongState),
        }
    }

    fn end<F: MultiwriteNorFlash>(
        &mut self,
        flash: &mut F,
        state: State,
        reason: Reason,
        now_ms: u64,
    ) -> Result<(), Reason> {
        let back = state == State::RolledBack;
        let active = if back { 1 - self.record.active } else { self.record.active };
        let running = if back { self.find_running(flash, active)? } else { self.running };
        let record = Record { state, active, reason: Some(reason), ..self.record };
        self.enter(flash, record, now_ms)?;
        self.running = running;
        Ok(())
    }

    /// Calls a release off, wherever it is on its way; one that has come to its end stays as it is.
    ///
    /// # Errors
    /// [`Reason::UnknownRelease`] or [`Reason::Flash`].
    pub fn cancel<F: MultiwriteNorFlash>(
        &mut self,
        flash: &mut F,
        release: ReleaseId,
        now_ms: u64,
    ) -> Result<(), Reason> {
        let state = self.record.state;
        if release != self.record.release {
            self.answer(release, Err(Reason::UnknownRelease))
        } else if state.is_arriving() || state == State::Trial {
            self.fail(flash, Reason::Cancelled, now_ms)
        } else {
            self.answer(release, Ok(()))
        }
    }

    /// Forgets why a release has come to its end: the server has noted it.
    ///
    /// # Errors
    /// [`Reason::UnknownRelease`], [`Reason::WrongState`] while it is on its way, or
    /// [`Reason::Flash`].
    pub fn seen<F: MultiwriteNorFlash>(
        &mut self,
        flash: &mut F,
        release: ReleaseId,
        now_ms: u64,
    ) -> Result<(), Reason> {
        if release != self.record.release {
            return self.answer(release, Err(Reason::UnknownRelease));
        }
        match self.record.state {
            State::Idle => self.answer(release, Ok(())),
            state if state.is_final() => {
                let record = Record { state: State::Idle, reason: None, ..self.record };
                self.enter(flash, record, now_ms)
            }
            _ => self.answer(release, Err(Reason::WrongState)),
        }
    }

    /// Tells whether the server should be sent a status: something has changed, enough chunks have
    /// come, or it was long ago.
    #[must_use]
    pub fn is_status_due(&self, now_ms: u64) -> bool {
        let Some(reported_ms) = self.reported_ms else {
            return true;
        };
        let old = now_ms.saturating_sub(reported_ms) >= UPDATE_STATUS_TIME_MS;
        let waits = self.record.state == State::Receiving || self.record.state.is_final();
        self.chunks_since >= UPDATE_STATUS_CHUNKS || (waits && old)
    }

    /// Makes the next status due, as after a new connection.
    pub fn ask_status(&mut self) {
        self.reported_ms = None;
    }

    /// Returns the status to be sent; `key_version` is that of the device's key document.
    ///
    /// # Errors
    /// [`Reason::Flash`].
    pub fn status<F: MultiwriteNorFlash>(
        &mut self,
        flash: &mut F,
        key_version: u64,
        now_ms: u64,
    ) -> Result<Status, Reason> {
        let (mut base, mut wanted) = (None, [0_u8; WANTED_LEN]);
        let (mut count, mut missing) = (0, 0);
        if let Some(arriving) = &self.arriving {
            (count, missing) = (arriving.count(), arriving.missing);
            self.other_slot::<F>().each_missing(flash, 0..count, |index| {
                let offset = index - *base.get_or_insert(index);
                let byte = wanted.get_mut((offset / 8) as usize);
                byte.map(|byte| *byte |= 1 << (offset % 8)).is_some()
            })?;
        }
        let (refused, refused_reason) = self.refused.take().unzip();
        (self.reported_ms, self.chunks_since) = (Some(now_ms), 0);
        Ok(Status {
            component: self.config.component,
            state: self.record.state,
            reason: self.record.reason,
            window: UPDATE_WINDOW_LEN,
            release: self.record.release,
            running_sequence: self.running_sequence(),
            highest_sequence: self.record.highest.max(self.config.factory_sequence),
            key_version,
            chunk_count: count,
            missing,
            base: base.unwrap_or(count),
            wanted,
            refused: refused.unwrap_or_default(),
            refused_reason,
        })
    }

    /// Keeps an answer for the next status.
    pub(super) fn answer(
        &mut self,
        release: ReleaseId,
        taken: Result<(), Reason>,
    ) -> Result<(), Reason> {
        if let Err(reason) = taken {
            self.refused = Some((release, reason));
        }
        self.reported_ms = None;
        taken
    }

    /// Writes a new record, and only then is in its state.
    fn enter<F: MultiwriteNorFlash>(
        &mut self,
        flash: &mut F,
        record: Record,
        now_ms: u64,
    ) -> Result<(), Reason> {
        self.journal.append(flash, &record)?;
        self.record = record;
        if !record.state.is_arriving() {
            self.arriving = None;
        }
        (self.hash, self.hashed) = (Sha256::new(), 0);
        (self.since_ms, self.reported_ms) = (now_ms, None);
        Ok(())
    }

    fn other_slot<F: MultiwriteNorFlash>(&self) -> Slot {
        self.config.layout.slot::<F>(1 - self.active())
    }

    fn find_running<F: MultiwriteNorFlash>(
        &self,
        flash: &mut F,
        active: u8,
    ) -> Result<Option<(ReleaseId, u64)>, Reason> {
        let mut buffer = [0; RELEASE_DOCUMENT_LEN_MAX];
        let slot = self.config.layout.slot::<F>(active.into());
        let document = slot.manifest(flash, &mut buffer)?;
        let signed = document.and_then(|document| SignedManifest::parse(document).ok());
        Ok(signed.map(|signed| (signed.id, signed.manifest.sequence)))
    }
}
