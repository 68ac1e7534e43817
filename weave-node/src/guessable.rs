//! Passwords that can be found by trying.

/// A password that can be found by trying has fewer bits than this, by the estimate of
/// [`is_guessable`]. A machine with a few graphics cards tries 2^40 in minutes.
const ENOUGH_BITS: f64 = 45.0;
/// What a letter adds in the middle of a word.
const BITS_OF_WORDS: f64 = 2.5;
/// What a character adds that repeats the one before, or goes on counting.
const BITS_OF_ROWS: f64 = 0.5;
/// Letters in a row that are taken for a word.
const WORD: usize = 4;

/// Whether a byte is of a kind of characters, and how many there are of that.
type Kind = (fn(&u8) -> bool, u32);

/// Returns whether somebody who recorded one connection is likely to find the password by trying.
/// An estimate that looks at the length, the kinds of characters, rows such as `1234`, and what may
/// be words; it knows no dictionary, so it can take a bad password for a good one.
pub fn is_guessable(password: &[u8]) -> bool {
    let kinds: [Kind; 5] = [
        (u8::is_ascii_lowercase, 26),
        (u8::is_ascii_uppercase, 26),
        (u8::is_ascii_digit, 10),
        (|byte| byte.is_ascii() && !byte.is_ascii_alphanumeric(), 33),
        (|byte| !byte.is_ascii(), 64),
    ];
    let present = kinds.iter().filter(|(is_kind, _)| password.iter().any(is_kind));
    let choices: u32 = present.map(|(_, size)| size).sum();
    let bits_of_any = f64::from(choices.max(1)).log2();
    let is_row = |at: usize| {
        let pair = at.checked_sub(1).and_then(|before| password.get(before..=at));
        pair.is_some_and(|pair| pair[0].abs_diff(pair[1]) <= 1)
    };
    let mut bits = 0.0;
    let mut start = 0;
    let is_letter = |byte: &u8| byte.is_ascii_lowercase() || !byte.is_ascii();
    for run in password.chunk_by(|a, b| is_letter(a) == is_letter(b)) {
        let is_word = run.len() >= WORD && run.iter().all(is_letter);
        for at in start..start + run.len() {
            bits += match (is_row(at), is_word) {
                (true, _) => BITS_OF_ROWS,
                (false, true) => BITS_OF_WORDS,
                (false, false) => bits_of_any,
            };
        }
        start += run.len();
    }
    bits < ENOUGH_BITS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_guessed_is_told_from_what_cannot() {
        for bad in [
            "",
            "x",
            "hunter2",
            "swordfish",
            "password",
            "password123456",
            "Passw0rd!",
            "12345678901234567890",
            "aaaaaaaaaaaaaaaaaaaaaaaaaaaa",
            "qwertyuiop",
            "weavenetwork",
            "secret99",
            "\u{e4}\u{e4}\u{e4}\u{e4}",
        ] {
            assert!(is_guessable(bad.as_bytes()), "{bad}");
        }
        for good in [
            "correct horse battery staple",
            "wfvAwt7sj",
            "3q2+7wAAAAD/rb7vZk9nUA==",
            "8f14e45fceea167a5a36dedd4bea2543",
            "Tr0ub4dor&3x",
        ] {
            assert!(!is_guessable(good.as_bytes()), "{good}");
        }
    }
}
