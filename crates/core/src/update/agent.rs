//! All of a device's updating behind one door: messages in, statuses out, its keys and one
//! [`Updater`] for each component.

use embedded_storage::nor_flash::MultiwriteNorFlash;

use super::transfer::{Message, Status};
use super::{
    Component, Config, Device, Event, FEATURE_SET, KeyStore, Reason, ReleaseId, SignedManifest,
    State, Updater,
};
use crate::detector::format;
use crate::limits::RELEASE_DOCUMENT_LEN_MAX;

/// What an [`Agent`] is told once.
#[derive(Clone, Copy, Debug)]
pub struct AgentConfig<'p> {
    /// The hardware class that the firmware was built for.
    pub hardware: &'p str,
    /// The key document of the device's provisioning.
    pub provisioned: &'p [u8],
    /// Where later key documents are kept.
    pub keys: KeyStore,
    /// The updater of the detector, if it can be replaced.
    pub detector: Option<Config>,
    /// The updater of the firmware, if it can be replaced.
    pub firmware: Option<Config>,
}

/// A device's updating.
#[derive(Clone, Debug)]
pub struct Agent<'p> {
    config: AgentConfig<'p>,
    detector: Option<Updater>,
    firmware: Option<Updater>,
}

impl<'p> Agent<'p> {
    /// Reads where all updaters were; see [`Updater::load`].
    ///
    /// # Errors
    /// [`Reason::Flash`], also if the layouts do not fit the flash.
    pub fn load<F: MultiwriteNorFlash>(
        config: AgentConfig<'p>,
        flash: &mut F,
        now_ms: u64,
    ) -> Result<Self, Reason> {
        if !config.keys.fits(flash) {
            return Err(Reason::Flash);
        }
        let mut load = |config: Option<Config>| {
            config.map(|config| Updater::load(config, flash, now_ms)).transpose()
        };
        let (detector, firmware) = (load(config.detector)?, load(config.firmware)?);
        Ok(Self { config, detector, firmware })
    }

    /// Returns the updater of a component.
    pub fn updater(&mut self, component: Component) -> Option<&mut Updater> {
        match component {
            Component::Detector => self.detector.as_mut(),
            Component::Firmware => self.firmware.as_mut(),
        }
    }

    fn updaters(&mut self) -> impl Iterator<Item = &mut Updater> {
        self.detector.iter_mut().chain(&mut self.firmware)
    }

    /// Returns what releases may ask of this device, as it runs now.
    #[must_use]
    pub fn device(&self) -> Device<'p> {
        let sequence =
            |updater: &Option<Updater>| updater.as_ref().map_or(0, Updater::running_sequence);
        Device {
            hardware: self.config.hardware,
            detector_format: format::VERSION,
            feature_set: FEATURE_SET,
            firmware_sequence: sequence(&self.firmware),
            detector_sequence: sequence(&self.detector),
        }
    }

    /// Takes a message of the server.
    ///
    /// # Errors
    /// Why it was not taken; the next status says so, too, except for what is no message.
    pub fn receive<F: MultiwriteNorFlash>(
        &mut self,
        flash: &mut F,
        message: &[u8],
        now_ms: u64,
    ) -> Result<(), Reason> {
        match Message::parse(message)? {
            Message::Keys(document) => self.take_keys(flash, document),
            Message::Offer(document) => self.take_offer(flash, document, now_ms),
            Message::Chunk(chunk) => self.of_release(chunk.release)?.chunk(flash, &chunk, now_ms),
            Message::Seen(release) => self.of_release(release)?.seen(flash, release, now_ms),
            Message::Cancel(release) => self.of_release(release)?.cancel(flash, release, now_ms),
            Message::Ask => {
                self.ask_statuses();
                Ok(())
            }
            Message::Unknown => Ok(()),
        }
    }

    /// Makes every updater's status due, as after a new connection.
    pub fn ask_statuses(&mut self) {
        self.updaters().for_each(Updater::ask_status);
    }

    fn take_keys<F: MultiwriteNorFlash>(
        &mut self,
        flash: &mut F,
        document: &[u8],
    ) -> Result<(), Reason> {
        let taken = self.config.keys.replace(flash, self.config.provisioned, document).map(|_| ());
        // Each status tells the version, so both tell what became of it.
        for updater in self.updaters() {
            let _ = updater.answer(ReleaseId::default(), taken);
        }
        taken
    }

    fn take_offer<F: MultiwriteNorFlash>(
        &mut self,
        flash: &mut F,
        document: &[u8],
        now_ms: u64,
    ) -> Result<(), Reason> {
        let signed = SignedManifest::parse(document).and_then(|signed| {
            let updater = self.updater(signed.manifest.component);
            if updater.is_some() { Ok(signed) } else { Err(Reason::OtherComponent) }
        });
        let signed = signed.inspect_err(|&reason| {
            for updater in self.updaters() {
                let _ = updater.answer(ReleaseId::default(), Err(reason));
            }
        })?;
        let mut buffer = [0; RELEASE_DOCUMENT_LEN_MAX];
        let keys = self.config.keys.load(flash, self.config.provisioned, &mut buffer)?;
        let device = self.device();
        let updater = self.updater(signed.manifest.component).ok_or(Reason::OtherComponent)?;
        updater.offer(flash, &keys, &device, &signed, document, now_ms)
    }

    /// Finds the updater whose state speaks of a release; what belongs to none is answered, too.
    fn of_release(&mut self, release: ReleaseId) -> Result<&mut Updater, Reason> {
        if !self.updaters().any(|updater| updater.release() == release) {
            for updater in self.updaters() {
                let _ = updater.answer(release, Err(Reason::UnknownRelease));
            }
        }
        let found = self.updaters().find(|updater| updater.release() == release);
        found.ok_or(Reason::UnknownRelease)
    }

    /// Goes on with what takes time, for each component; see [`Updater::step`].
    ///
    /// # Errors
    /// [`Reason::Flash`].
    pub fn step<F: MultiwriteNorFlash>(
        &mut self,
        flash: &mut F,
        now_ms: u64,
    ) -> Result<Option<(Component, Event)>, Reason> {
        for updater in self.updaters() {
            match updater.step(flash, now_ms)? {
                Event::Nothing => {}
                event => return Ok(Some((updater.component(), event))),
            }
        }
        Ok(None)
    }

    /// Switches a component to its staged release; see [`Updater::switch`]. One at a time: what one
    /// release needs of another must not go away again.
    ///
    /// # Errors
    /// [`Reason::Busy`] while another component is on trial, and those of [`Updater::switch`].
    pub fn switch<F: MultiwriteNorFlash>(
        &mut self,
        flash: &mut F,
        component: Component,
        now_ms: u64,
    ) -> Result<usize, Reason> {
        if self.updaters().any(|other| other.state() == State::Trial) {
            return Err(Reason::Busy);
        }
        let mut buffer = [0; RELEASE_DOCUMENT_LEN_MAX];
        let keys = self.config.keys.load(flash, self.config.provisioned, &mut buffer)?;
        let device = self.device();
        let updater = self.updater(component).ok_or(Reason::OtherComponent)?;
        updater.switch(flash, &keys, &device, now_ms)
    }

    /// Returns the next status that the server should be sent, if one is due.
    ///
    /// # Errors
    /// [`Reason::Flash`].
    pub fn next_status<F: MultiwriteNorFlash>(
        &mut self,
        flash: &mut F,
        now_ms: u64,
    ) -> Result<Option<Status>, Reason> {
        let (keys, provisioned) = (self.config.keys, self.config.provisioned);
        let Some(updater) = self.updaters().find(|updater| updater.is_status_due(now_ms)) else {
            return Ok(None);
        };
        let mut buffer = [0; RELEASE_DOCUMENT_LEN_MAX];
        let version = keys.load(flash, provisioned, &mut buffer).map_or(0, |keys| keys.version);
        updater.status(flash, version, now_ms).map(Some)
    }
}
