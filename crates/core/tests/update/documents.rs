//! Manifests, key documents and trees: what others made is read, what is written is what they made,
//! and what was forged is refused.

use ed25519_dalek::{Signer, SigningKey};
use sha2::Digest;
use stonechat_core::limits::{RELEASE_CHUNK_LEN, RELEASE_DOCUMENT_LEN_MAX, RELEASE_PROOF_LEN_MAX};
use stonechat_core::update::cose::{
    KeyId, SIGNED_LEN_MAX, Signature, signed_by_one, signed_by_several,
};
use stonechat_core::update::tree::{self, Root};
use stonechat_core::update::{
    Component, Dependencies, Device, KeyDocument, Manifest, Reason, ReleaseId, SignedManifest,
    manifest, trust,
};

use crate::vectors::{self, ManifestCase, array, bytes};

const DEVICE: Device<'static> = Device {
    hardware: "virt",
    detector_format: 1,
    feature_set: 1,
    firmware_sequence: 5,
    detector_sequence: 6,
};

#[test]
fn manifests_are_read_and_written_as_others_do() {
    for case in vectors::load().manifests {
        let (payload, signed) = (bytes(&case.payload), bytes(&case.signed));
        let (root, digest) = (array(&case.root), array(&case.digest));
        let expected = Manifest {
            component: Component::from_number(case.component).expect("a component"),
            hardware: &case.hardware,
            sequence: case.sequence,
            version: &case.version,
            image_len: case.image_len,
            root: &root,
            digest: &digest,
            dependencies: needs(&case),
            rollback: case.rollback,
        };
        let parsed = SignedManifest::parse(&signed).expect(&case.name);
        assert_eq!(parsed.manifest, expected, "{}", case.name);
        assert_eq!(parsed.id, ReleaseId(array(&case.id)), "{}", case.name);

        let mut written = [0; RELEASE_DOCUMENT_LEN_MAX];
        let len = expected.write(&mut written).expect(&case.name);
        assert_eq!(written[..len], payload, "{}", case.name);
        assert_eq!(expected.write(&mut written[..len - 1]), Err(Reason::TooBig), "{}", case.name);

        let signer = SigningKey::from_bytes(&array(&case.secret));
        let public = signer.verifying_key().to_bytes();
        let key = KeyId::of(&public);
        let mut text = [0; SIGNED_LEN_MAX];
        let len = signed_by_one(&payload, key, &mut text).expect("room");
        let signature = signer.sign(&text[..len]).to_bytes();
        let len = manifest::seal(&payload, key, &signature, &mut written).expect("room");
        assert_eq!(written[..len], signed, "{}", case.name);

        let keys = KeyDocument::new(1, &[&public], 1, &[&public], &[]).expect("legal");
        assert_eq!(parsed.verify(&keys), Ok(()), "{}", case.name);
    }
    let optional = bytes(&vectors::load().optional_key);
    assert!(SignedManifest::parse(&optional).is_ok(), "an optional key is passed over");
}

fn needs(case: &ManifestCase) -> Dependencies {
    let [format, set, firmware_sequence, detector_sequence] = case.needs;
    Dependencies {
        detector_format: format.try_into().expect("16 bits"),
        feature_set: set.try_into().expect("32 bits"),
        firmware_sequence,
        detector_sequence,
    }
}

#[test]
fn forged_manifests_are_refused() {
    let vectors = vectors::load();
    let document = bytes(&vectors.key_documents[1].signed);
    let keys = KeyDocument::parse(&document).expect("legal");
    for case in &vectors.forged_manifests {
        let signed = bytes(&case.signed);
        let refused = SignedManifest::parse(&signed).and_then(|parsed| parsed.verify(&keys));
        assert_eq!(refused, Err(case.reason()), "{}", case.name);
    }
}

#[test]
fn every_cut_and_every_flipped_bit_of_a_release_is_noticed() {
    let vectors = vectors::load();
    let document = bytes(&vectors.key_documents[0].signed);
    let keys = KeyDocument::parse(&document).expect("legal");
    let signed = bytes(&vectors.manifests[0].signed);
    let takes = |bytes: &[u8]| SignedManifest::parse(bytes).and_then(|parsed| parsed.verify(&keys));
    assert_eq!(takes(&signed), Ok(()));
    for len in 0..signed.len() {
        assert_eq!(takes(&signed[..len]), Err(Reason::Malformed), "{len}");
    }
    for bit in 0..signed.len() * 8 {
        let mut flipped = signed.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(takes(&flipped).is_err(), "bit {bit}");
    }
}

#[test]
fn a_device_takes_what_is_for_it_and_newer() {
    let vectors = vectors::load();
    let check = |name: &str, device: &Device<'_>, highest: u64| {
        let case = vectors.manifests.iter().find(|case| case.name == name).expect("a case");
        let signed = bytes(&case.signed);
        SignedManifest::parse(&signed).expect("legal").manifest.check(device, highest)
    };
    let old = Err(Reason::OldSequence);
    assert_eq!(check("detector", &DEVICE, 6), Ok(()));
    assert_eq!(check("detector", &DEVICE, 7), old, "the same again");
    assert_eq!(check("detector", &DEVICE, 8), old);
    let other = Device { hardware: "esp32c3", ..DEVICE };
    assert_eq!(check("detector", &other, 0), Err(Reason::OtherHardware));
    // It needs firmware 40 and detector file 1.
    assert_eq!(check("needs", &DEVICE, 0), Err(Reason::UnmetDependency));
    let newer = Device { firmware_sequence: 40, ..DEVICE };
    assert_eq!(check("needs", &newer, 0), Ok(()));
    let reads_none = Device { detector_format: 0, ..newer };
    assert_eq!(check("needs", &reads_none, 0), Err(Reason::UnmetDependency));
    // It goes back to 1, from up to 24; and needs feature set 1 and detector 6.
    let back = "needs everything, goes back";
    let whole = Device { firmware_sequence: 40, ..other };
    assert_eq!(check(back, &whole, 24), Ok(()));
    assert_eq!(check(back, &whole, 25), old);
    assert_eq!(check(back, &whole, 0), Ok(()), "for whom it is news");
    for lacks in [Device { feature_set: 0, ..whole }, Device { detector_sequence: 5, ..whole }] {
        assert_eq!(check(back, &lacks, 24), Err(Reason::UnmetDependency));
    }
}

#[test]
fn key_documents_are_read_and_written_as_others_do() {
    let vectors = vectors::load();
    let signed: Vec<Vec<u8>> =
        vectors.key_documents.iter().map(|case| bytes(&case.signed)).collect();
    let mut trusted = KeyDocument::parse(&signed[0]).expect("legal");
    for (case, signed) in vectors.key_documents.iter().zip(&signed) {
        let payload = bytes(&case.payload);
        let roots: Vec<[u8; 32]> = case.roots.iter().map(|key| array(key)).collect();
        let release: Vec<[u8; 32]> = case.release.iter().map(|key| array(key)).collect();
        let revoked: Vec<[u8; 8]> = case.revoked.iter().map(|key| array(key)).collect();
        let (roots, release) = (Vec::from_iter(&roots), Vec::from_iter(&release));
        let revoked = Vec::from_iter(&revoked);
        let expected = KeyDocument::new(case.version, &roots, case.threshold, &release, &revoked);
        let expected = expected.expect(&case.name);
        assert_eq!(KeyDocument::parse(signed), Ok(expected), "{}", case.name);

        let mut written = [0; RELEASE_DOCUMENT_LEN_MAX];
        let len = expected.write(&mut written).expect("room");
        assert_eq!(written[..len], payload, "{}", case.name);

        let signers = case.signers.iter().map(|secret| {
            let signer = SigningKey::from_bytes(&array(secret));
            let key = KeyId::of(&signer.verifying_key().to_bytes());
            let mut text = [0; SIGNED_LEN_MAX];
            let len = signed_by_several(&payload, key, &mut text).expect("room");
            (key, signer.sign(&text[..len]).to_bytes())
        });
        let signers: Vec<(KeyId, [u8; 64])> = signers.collect();
        let signatures = signers.iter().map(|(key, bytes)| Signature { key: *key, bytes });
        let signatures: Vec<Signature<'_>> = signatures.collect();
        let len = trust::seal(&payload, &signatures, &mut written).expect("room");
        assert_eq!(&written[..len], signed, "{}", case.name);

        if expected.version > trusted.version {
            trusted = trusted.successor(signed).expect(&case.name);
        }
    }
    // After the last document only its own root counts.
    assert_eq!(trusted.version, 5);
    assert_eq!(trusted.roots().count(), 1);
    for older in &signed {
        assert_eq!(trusted.successor(older), Err(Reason::OldKeys));
    }
}

#[test]
fn forged_key_documents_are_refused() {
    let vectors = vectors::load();
    let document = bytes(&vectors.key_documents[1].signed);
    let trusted = KeyDocument::parse(&document).expect("legal");
    for case in &vectors.forged_key_documents {
        let signed = bytes(&case.signed);
        let refused = trusted.successor(&signed).map(|document| document.version);
        assert_eq!(refused, Err(case.reason()), "{}", case.name);
    }
    // A root that has left signs nothing any more, whatever it signed before.
    let moved = bytes(&vectors.key_documents[2].signed);
    let moved = trusted.successor(&moved).expect("legal");
    let signed = bytes(&vectors.signed_by_roots_that_left);
    assert_eq!(trusted.successor(&signed).map(|document| document.version), Ok(9));
    assert_eq!(moved.successor(&signed), Err(Reason::TooFewSignatures));
}

#[test]
fn trees_and_proofs_are_those_of_others() {
    for case in vectors::load().trees {
        let image = vectors::image(case.image_len);
        let chunks: Vec<&[u8]> = image.chunks(RELEASE_CHUNK_LEN).collect();
        let leaves: Vec<[u8; 32]> = chunks.iter().map(|chunk| tree::leaf(chunk)).collect();
        let count = tree::chunk_count(case.image_len as u32);
        assert_eq!(count as usize, chunks.len());
        assert_eq!(sha2::Sha256::digest(&image)[..], bytes(&case.digest));
        let root = array(&case.root);
        let mut streamed = Root::default();
        assert!(leaves.iter().all(|leaf| streamed.push(*leaf)));
        assert_eq!(streamed.finish(), root, "{}", case.image_len);
        for (index, chunk) in (0..).zip(&chunks) {
            assert_eq!(tree::chunk_len(case.image_len as u32, index), chunk.len());
        }
        for expected in case.proofs {
            let mut proof = [[0; 32]; RELEASE_PROOF_LEN_MAX];
            let index = expected.index;
            let len = tree::prove(&leaves, index as usize, &mut proof).expect("a proof");
            let proof = &proof[..len];
            let others: Vec<[u8; 32]> = expected.proof.iter().map(|hash| array(hash)).collect();
            assert_eq!(proof, others, "{} {index}", case.image_len);
        }
    }
}

#[test]
fn a_proof_shows_its_leaf_at_its_place_and_nothing_else() {
    for count in 1..=40_u32 {
        let leaves: Vec<[u8; 32]> = (0..count).map(|i| tree::leaf(&i.to_le_bytes())).collect();
        let mut root = Root::default();
        assert!(leaves.iter().all(|leaf| root.push(*leaf)));
        let root = root.finish();
        for index in 0..count {
            let leaf = leaves[index as usize];
            let mut proof = [[0; 32]; RELEASE_PROOF_LEN_MAX];
            let len = tree::prove(&leaves, index as usize, &mut proof).expect("a proof");
            assert!(tree::verify(&root, count, index, leaf, &proof[..len]), "{index} of {count}");
            for other in (0..=count).filter(|&other| other != index) {
                assert!(!tree::verify(&root, count, other, leaf, &proof[..len]));
            }
            let longer = len + 1;
            assert!(!tree::verify(&root, count, index, leaf, &proof[..longer]));
            for at in 0..len {
                assert!(!tree::verify(&root, count, index, leaf, &proof[..at]), "cut off");
                let mut flipped = proof;
                flipped[at][31] ^= 1;
                assert!(!tree::verify(&root, count, index, leaf, &flipped[..len]));
            }
            assert!(!tree::verify(&root, count, index, tree::leaf(b"other"), &proof[..len]));
        }
        assert_eq!(tree::prove(&leaves, count as usize, &mut [[0; 32]; 14]), None);
    }
    assert!(!tree::verify(&[0; 32], 0, 0, [0; 32], &[]));
}
