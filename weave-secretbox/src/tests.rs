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
