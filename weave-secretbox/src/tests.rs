use super::*;
use proptest::prelude::*;

/// The message of "Cryptography in NaCl", section 9 (also tests/secretbox.c of NaCl).
#[test]
fn seals_as_nacl_does() {
    let bytes = |text: &str| hex::decode(text).unwrap();
    let key: [u8; 32] = bytes("1b27556473e985d462cd51197a9a46c76009549eac6474f206c4ee0844f68389")
        .try_into()
        .unwrap();
    let nonce: [u8; 24] =
        bytes("69696ee955b62b73cd62bda875fc73d68219e0036b7a0b37").try_into().unwrap();
    let message = bytes(
        "be075fc53c81f2d5cf141316ebeb0c7b5228c52a4c62cbd44b66849b64244ffc\
         e5ecbaaf33bd751a1ac728d45e6c61296cdc3c01233561f41db66cce314adb31\
         0e3be8250c46f06dceea3a7fa1348057e2f6556ad6b1318a024a838f21af1fde\
         048977eb48f59ffd4924ca1c60902e52f0a089bc76897040e082f93776384864\
         5e0705",
    );
    let mut text = message.clone();
    let tag = seal_in_place(&key, &nonce, &mut text);
    assert_eq!(hex::encode(tag), "f3ffc7703f9400e52a7dfb4b3d3305d9");
    assert_eq!(
        hex::encode(&text),
        "8e993b9f48681273c29650ba32fc76ce48332ea7164d96a4476fb8c531a1186a\
         c0dfc17c98dce87b4da7f011ec48c97271d2c20f9b928fe2270d6fb863d51738\
         b48eeee314a7cc8ab932164548e526ae90224368517acfeabd6bb3732bc0e9da\
         99832b61ca01b6de56244a9e88d5f9b37973f622a43d14a6599b1f654cb45a74\
         e355a5"
    );
    open_in_place(&key, &nonce, &tag, &mut text).unwrap();
    assert_eq!(text, message);
}

proptest! {
    #[test]
    fn opens_what_it_sealed_and_nothing_else(
        key: [u8; 32],
        nonce: [u8; 24],
        message in proptest::collection::vec(any::<u8>(), 0..300),
        bit in 0usize..8 * (300 + TAG_LEN + NONCE_LEN),
    ) {
        let mut sealed = message.clone();
        let tag = seal_in_place(&key, &nonce, &mut sealed);

        let mut opened = sealed.clone();
        prop_assert_eq!(open_in_place(&key, &nonce, &tag, &mut opened), Ok(()));
        prop_assert_eq!(&opened, &message);

        let (mut nonce, mut tag, mut changed) = (nonce, tag, sealed);
        let (byte, mask) = (bit / 8, 1 << (bit % 8));
        let place = nonce.iter_mut().chain(&mut tag).chain(&mut changed).nth(byte);
        if let Some(place) = place {
            *place ^= mask;
            let before = changed.clone();
            prop_assert_eq!(open_in_place(&key, &nonce, &tag, &mut changed), Err(OpenError));
            prop_assert_eq!(changed, before);
        }
    }
}

/// Whatever messages go side by side, in whatever number and of whatever lengths.
fn messages_side_by_side_are_the_reference(backend: Backend, lengths: &[usize]) {
    let (key, prefix) = ([0x5a; 32], [3; PREFIX_LEN]);
    let prefix_key = PrefixKey::with_backend(backend, &key, &prefix);
    let plain: Vec<Vec<u8>> = (0_u8..)
        .zip(lengths)
        .map(|(salt, len)| (0..=250).map(|byte| byte ^ salt).cycle().take(*len).collect())
        .collect();
    let mut texts = plain.clone();
    let mut tags = vec![[0; TAG_LEN]; lengths.len()];
    let messages =
        |texts: &mut [Vec<u8>],
         tags: &mut [[u8; TAG_LEN]],
         work: &mut dyn FnMut(&mut dyn Iterator<Item = Message<'_>>)| {
            let mut messages = texts
                .iter_mut()
                .zip(tags)
                .zip(0_u64..)
                .map(|((text, tag), number)| Message { nonce: number.to_be_bytes(), tag, text });
            work(&mut messages);
        };
    messages(&mut texts, &mut tags, &mut |messages| prefix_key.seal_each(messages));
    for (number, text) in (0_u64..).zip(&plain) {
        let nonce = [&prefix[..], &number.to_be_bytes()].concat();
        let mut expected = text.clone();
        let tag = reference(&key, &nonce, &mut expected);
        let place = usize::try_from(number).unwrap();
        assert_eq!(texts[place], expected, "{backend}: {number} of {lengths:?}");
        assert_eq!(tags[place], tag, "{backend}: {number} of {lengths:?}");
    }

    // Every third is changed.
    let changed = |number: usize| number % 3 == 1;
    for (number, tag) in tags.iter_mut().enumerate().filter(|(number, _)| changed(*number)) {
        tag[number % TAG_LEN] ^= 1;
    }
    let sealed = texts.clone();
    let mut opened = Vec::new();
    messages(&mut texts, &mut tags, &mut |messages| {
        prefix_key.open_each(messages, |nonce, result| {
            opened.push((u64::from_be_bytes(nonce), result.map(|text| text.to_vec())));
        });
    });
    for (number, text) in texts.iter().enumerate() {
        let expected = if changed(number) { Err(OpenError) } else { Ok(plain[number].clone()) };
        assert_eq!(opened[number], (number as u64, expected), "{backend}: {lengths:?}");
        assert_eq!(text, if changed(number) { &sealed } else { &plain }.get(number).unwrap());
    }
    assert_eq!(opened.len(), lengths.len());
}

#[test]
fn every_length_is_the_reference() {
    for backend in Backend::available() {
        for len in (0..=200).chain((200..=1100).step_by(9)) {
            messages_side_by_side_are_the_reference(backend, &[len]);
        }
        for len in [0, 1, 31, 32, 33, 95, 96, 97, 1400, 1442, 9000] {
            for count in [2, 15, 16, 17, 44] {
                messages_side_by_side_are_the_reference(backend, &vec![len; count]);
            }
        }
    }
}

proptest! {
    // Each case seals some tens of kilobytes in every way.
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_messages_side_by_side_are_the_reference(
        lengths in proptest::collection::vec(
            prop_oneof![0_usize..100, 0_usize..2000, Just(1442)], 0..40,
        ),
    ) {
        for backend in Backend::available() {
            messages_side_by_side_are_the_reference(backend, &lengths);
        }
    }
}

fn reference(key: &[u8; 32], nonce: &[u8], text: &mut [u8]) -> [u8; TAG_LEN] {
    use crypto_secretbox::aead::AeadInPlace;
    use crypto_secretbox::{KeyInit, Nonce, XSalsa20Poly1305};
    let cipher = XSalsa20Poly1305::new(key.into());
    cipher.encrypt_in_place_detached(Nonce::from_slice(nonce), b"", text).unwrap().into()
}
