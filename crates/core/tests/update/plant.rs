//! Those who take part in an update: who signs, the server that sends, the device that restarts.

use ed25519_dalek::{Signer, SigningKey};
use sha2::{Digest, Sha256};
use stonechat_core::limits::{RELEASE_CHUNK_LEN, RELEASE_DOCUMENT_LEN_MAX, RELEASE_PROOF_LEN_MAX};
use stonechat_core::update::cose::{
    KeyId, SIGNED_LEN_MAX, Signature, signed_by_one, signed_by_several,
};
use stonechat_core::update::transfer::{Chunk, MESSAGE_LEN_MAX, Message, STATUS_LEN, Status};
use stonechat_core::update::tree::{self, Root};
use stonechat_core::update::{
    Agent, AgentConfig, Component, Config, Dependencies, KeyDocument, KeyStore, Layout, Manifest,
    Reason, Region, ReleaseId, SignedManifest, State, manifest, trust,
};

use crate::flash::{Flash, Random};

/// Signs with a key that a number names.
pub(crate) fn signer(number: u8) -> SigningKey {
    SigningKey::from_bytes(&[number; 32])
}

fn public(number: u8) -> [u8; 32] {
    signer(number).verifying_key().to_bytes()
}

/// A key document: roots 1 and 2, both of which must sign.
pub(crate) fn key_document(version: u64, release: &[u8], revoked: &[u8]) -> Vec<u8> {
    let sorted = |numbers: &[u8]| {
        let mut keys: Vec<[u8; 32]> = numbers.iter().map(|number| public(*number)).collect();
        keys.sort();
        keys
    };
    let (roots, release) = (sorted(&[1, 2]), sorted(release));
    let mut revoked: Vec<[u8; 8]> = revoked.iter().map(|key| KeyId::of(&public(*key)).0).collect();
    revoked.sort();
    let (roots, release) = (Vec::from_iter(&roots), Vec::from_iter(&release));
    let document = KeyDocument::new(version, &roots, 2, &release, &Vec::from_iter(&revoked));
    let mut payload = [0; RELEASE_DOCUMENT_LEN_MAX];
    let len = document.expect("legal").write(&mut payload).expect("room");
    let payload = &payload[..len];
    let mut signatures: Vec<(KeyId, [u8; 64])> = [1, 2]
        .map(|number| {
            let (key, mut text) = (KeyId::of(&public(number)), [0; SIGNED_LEN_MAX]);
            let len = signed_by_several(payload, key, &mut text).expect("room");
            (key, signer(number).sign(&text[..len]).to_bytes())
        })
        .to_vec();
    signatures.sort();
    let list = signatures.iter().map(|(key, bytes)| Signature { key: *key, bytes });
    let mut signed = vec![0; RELEASE_DOCUMENT_LEN_MAX];
    let len = trust::seal(payload, &Vec::from_iter(list), &mut signed).expect("room");
    signed.truncate(len);
    signed
}

/// A release as the server has it.
#[derive(Clone)]
pub(crate) struct Release {
    pub(crate) image: Vec<u8>,
    pub(crate) document: Vec<u8>,
    pub(crate) id: ReleaseId,
    leaves: Vec<[u8; 32]>,
}

/// What a release says of itself, as far as tests change it.
#[derive(Clone, Copy)]
pub(crate) struct Says {
    pub(crate) component: Component,
    pub(crate) hardware: &'static str,
    pub(crate) sequence: u64,
    pub(crate) key: u8,
    pub(crate) dependencies: Dependencies,
    pub(crate) rollback: Option<u64>,
}

impl Says {
    pub(crate) fn new(component: Component, sequence: u64) -> Self {
        let dependencies = Dependencies::default();
        Self { component, hardware: "virt", sequence, key: 3, dependencies, rollback: None }
    }

    pub(crate) fn release(self, image: Vec<u8>) -> Release {
        let leaves: Vec<[u8; 32]> = image.chunks(RELEASE_CHUNK_LEN).map(tree::leaf).collect();
        let mut root = Root::default();
        assert!(leaves.iter().all(|leaf| root.push(*leaf)));
        let digest = Sha256::digest(&image).into();
        self.release_of(image, leaves, &root.finish(), &digest)
    }

    pub(crate) fn release_of(
        self,
        image: Vec<u8>,
        leaves: Vec<[u8; 32]>,
        root: &[u8; 32],
        digest: &[u8; 32],
    ) -> Release {
        let Self { component, hardware, sequence, key, dependencies, rollback } = self;
        let image_len = image.len() as u32;
        let version = "1.0.0";
        #[rustfmt::skip]
        let says = Manifest {
            component, hardware, sequence, version, image_len, root, digest, dependencies, rollback,
        };
        let (mut payload, mut text) = ([0; RELEASE_DOCUMENT_LEN_MAX], [0; SIGNED_LEN_MAX]);
        let len = says.write(&mut payload).expect("legal");
        let payload = &payload[..len];
        let id = KeyId::of(&public(key));
        let len = signed_by_one(payload, id, &mut text).expect("room");
        let signature = signer(key).sign(&text[..len]).to_bytes();
        let mut document = vec![0; RELEASE_DOCUMENT_LEN_MAX];
        let len = manifest::seal(payload, id, &signature, &mut document).expect("room");
        document.truncate(len);
        let id = SignedManifest::parse(&document).expect("legal").id;
        Release { image, document, id, leaves }
    }
}

impl Release {
    /// Makes a release of arbitrary bytes.
    pub(crate) fn new(component: Component, sequence: u64, len: usize) -> Self {
        Says::new(component, sequence).release(image(sequence, len))
    }

    pub(crate) fn offer(&self) -> Vec<u8> {
        written(&Message::Offer(&self.document))
    }

    pub(crate) fn chunk(&self, index: u32) -> Vec<u8> {
        let mut proof = [[0; 32]; RELEASE_PROOF_LEN_MAX];
        let len = tree::prove(&self.leaves, index as usize, &mut proof).expect("a chunk");
        let bytes = self.image.chunks(RELEASE_CHUNK_LEN).nth(index as usize).expect("a chunk");
        written(&Message::Chunk(Chunk { release: self.id, index, proof: &proof[..len], bytes }))
    }

    pub(crate) fn chunk_count(&self) -> u32 {
        self.leaves.len() as u32
    }
}

/// Bytes that look random.
pub(crate) fn image(seed: u64, len: usize) -> Vec<u8> {
    let mut random = Random(seed * 0x9E37_79B9 + 1);
    (0..len).map(|_| random.next() as u8).collect()
}

pub(crate) fn written(message: &Message<'_>) -> Vec<u8> {
    let mut bytes = vec![0; MESSAGE_LEN_MAX];
    let len = message.write(&mut bytes).expect("a message");
    bytes.truncate(len);
    bytes
}

/// What the device was made with, which no manifest describes.
pub(crate) const FACTORY_SEQUENCE: u64 = 4;

/// The flash of the tests: keys, then a journal and two slots for each component.
pub(crate) fn agent_config(provisioned: &[u8], erase: u32) -> AgentConfig<'_> {
    let region = |first: u32, blocks: u32| Region { start: first * erase, len: blocks * erase };
    let slot_blocks = slot_blocks(erase);
    let component = |component, first: u32| Config {
        component,
        layout: Layout {
            journal: [region(first, 1), region(first + 1, 1)],
            slots: [region(first + 2, slot_blocks), region(first + 2 + slot_blocks, slot_blocks)],
        },
        factory_sequence: FACTORY_SEQUENCE,
    };
    AgentConfig {
        hardware: "virt",
        provisioned,
        keys: KeyStore { blocks: [region(0, 1), region(1, 1)] },
        detector: Some(component(Component::Detector, 2)),
        firmware: Some(component(Component::Firmware, 4 + 2 * slot_blocks)),
    }
}

fn slot_blocks(erase: u32) -> u32 {
    let trailer = 4_096_u32.div_ceil(erase);
    trailer + 48_000_u32.div_ceil(erase)
}

/// A device that is switched on, off, and on again.
pub(crate) struct Plant<'p, const WRITE: usize, const ERASE: usize> {
    pub(crate) flash: Flash<WRITE, ERASE>,
    provisioned: &'p [u8],
    /// The image that the device was made with, in slot 0 of both components.
    factory: Vec<u8>,
    /// All that the server ever released.
    pub(crate) releases: Vec<Release>,
    /// How many of them are done with.
    pub(crate) done: usize,
    /// Sequence numbers of releases that are not healthy.
    pub(crate) unhealthy: Vec<u64>,
    /// Documents that the server has.
    pub(crate) keys: Vec<Vec<u8>>,
    /// How the server saw releases end.
    pub(crate) ends: Vec<(ReleaseId, State, Option<Reason>)>,
    pub(crate) random: Random,
    /// The newest key document that the device ever said it has.
    pub(crate) key_version: u64,
    now_ms: u64,
}

impl<'p, const WRITE: usize, const ERASE: usize> Plant<'p, WRITE, ERASE> {
    pub(crate) fn new(provisioned: &'p [u8]) -> Self {
        let blocks = 6 + 4 * slot_blocks(ERASE as u32) as usize;
        let (mut flash, factory) = (Flash::new(blocks), image(99, 3_000));
        let config = agent_config(provisioned, ERASE as u32);
        for config in [config.detector, config.firmware] {
            let at = config.expect("both").layout.slots[0].start as usize;
            flash.bytes[at..at + factory.len()].copy_from_slice(&factory);
        }
        Self {
            flash,
            provisioned,
            factory,
            releases: Vec::new(),
            done: 0,
            unhealthy: Vec::new(),
            keys: Vec::new(),
            ends: Vec::new(),
            random: Random(7),
            key_version: 1,
            now_ms: 0,
        }
    }

    pub(crate) fn config(&self) -> AgentConfig<'p> {
        agent_config(self.provisioned, ERASE as u32)
    }

    /// Switches the device on, and holds that what it runs is whole.
    pub(crate) fn start(&mut self) -> Result<Agent<'p>, Reason> {
        self.now_ms = 0;
        let mut agent = Agent::load(self.config(), &mut self.flash, self.now_ms)?;
        for component in [Component::Detector, Component::Firmware] {
            let updater = agent.updater(component).expect("both");
            // The device runs what this says, whether the start could be counted or not.
            let counted = updater.count_start(&mut self.flash, self.now_ms);
            self.check_running(&mut agent, component);
            counted?;
        }
        Ok(agent)
    }

    /// Holds that the slot that runs has the image that it says, byte for byte.
    pub(crate) fn check_running(&self, agent: &mut Agent<'_>, component: Component) {
        let config = match component {
            Component::Detector => self.config().detector,
            Component::Firmware => self.config().firmware,
        };
        let updater = agent.updater(component).expect("both");
        let sequence = updater.running_sequence();
        let of = |release: &&Release| {
            let signed = SignedManifest::parse(&release.document).expect("legal");
            (signed.manifest.component, signed.manifest.sequence) == (component, sequence)
        };
        let expected = if sequence == FACTORY_SEQUENCE {
            &self.factory
        } else {
            &self.releases.iter().find(of).expect("a release that runs").image
        };
        let at = config.expect("both").layout.slots[updater.active()].start as usize;
        assert!(self.flash.bytes[at..at + expected.len()] == **expected, "what runs is not whole");
    }

    /// Goes on until the server has noted the end of a release. The server answers each status;
    /// chunks come in any order, some of them twice or not at all.
    ///
    /// # Errors
    /// What the device met when its power went.
    pub(crate) fn run(&mut self, release: &Release) -> Result<(), Reason> {
        'start: for _ in 0..100 {
            let mut agent = self.start()?;
            for _ in 0..100_000 {
                self.now_ms += 100;
                while let Some(status) = agent.next_status(&mut self.flash, self.now_ms)? {
                    let bytes: [u8; STATUS_LEN] = status.write();
                    let status = Status::parse(&bytes).expect("what was written");
                    if self.serve(&mut agent, release, &status)? {
                        return Ok(());
                    }
                }
                if self.work(&mut agent)? {
                    continue 'start;
                }
            }
            break;
        }
        panic!("it goes on for ever");
    }

    /// Does what a device does besides; tells whether it restarts.
    pub(crate) fn work(&mut self, agent: &mut Agent<'_>) -> Result<bool, Reason> {
        agent.step(&mut self.flash, self.now_ms)?;
        for component in [Component::Detector, Component::Firmware] {
            let restarts = component == Component::Firmware;
            let updater = agent.updater(component).expect("both");
            match updater.state() {
                State::Staged => {
                    let staged = updater.image(&mut self.flash, 1 - updater.active())?;
                    assert!(staged.is_some(), "it can be looked at before it runs");
                    agent.switch(&mut self.flash, component, self.now_ms)?;
                    self.check_running(agent, component);
                    return Ok(restarts);
                }
                State::Trial if self.unhealthy.contains(&updater.running_sequence()) => {
                    // Firmware crashes; a detector does harm that the device sees.
                    if !restarts {
                        updater.fail(&mut self.flash, Reason::Unhealthy, self.now_ms)?;
                        self.check_running(agent, component);
                    }
                    return Ok(restarts);
                }
                State::Trial => updater.confirm(&mut self.flash, self.now_ms)?,
                _ => {}
            }
        }
        Ok(false)
    }

    /// Answers a status; tells whether the release has come to its end.
    fn serve(
        &mut self,
        agent: &mut Agent<'_>,
        release: &Release,
        status: &Status,
    ) -> Result<bool, Reason> {
        assert!(status.key_version >= self.key_version, "keys that were revoked are back");
        self.key_version = status.key_version;
        let mut messages = Vec::new();
        let component = SignedManifest::parse(&release.document).expect("legal").manifest.component;
        if let Some(keys) = self
            .keys
            .iter()
            .find(|keys| KeyDocument::parse(keys).expect("legal").version > status.key_version)
        {
            messages.push(written(&Message::Keys(keys)));
        } else if status.state.is_final() {
            let end = (status.release, status.state, status.reason);
            if self.ends.last() != Some(&end) {
                self.ends.push(end);
            }
            messages.push(written(&Message::Seen(status.release)));
        } else if status.component == component && status.state == State::Idle {
            if self.ends.iter().any(|end| end.0 == release.id) && status.release == release.id {
                return Ok(true);
            }
            messages.push(release.offer());
        } else if status.component == component && status.state == State::Receiving {
            assert_eq!(status.release, release.id);
            let mut wanted: Vec<u32> = status.wanted().collect();
            assert_eq!(wanted.first(), Some(&status.base));
            for at in 0..wanted.len() {
                let other = self.random.below(wanted.len() as u64) as usize;
                wanted.swap(at, other);
            }
            wanted.truncate(status.window.into());
            for index in wanted {
                let times = [0, 1, 1, 1, 2][self.random.below(5) as usize];
                messages.extend((0..times).map(|_| release.chunk(index)));
            }
        }
        for message in messages {
            agent.receive(&mut self.flash, &message, self.now_ms)?;
        }
        Ok(false)
    }
}
