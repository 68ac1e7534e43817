//! The twenty rounds, for words and for vectors of words alike.

/// Applies the ten double rounds ("Salsa20 specification", section 6) to the sixteen elements
/// of `$x`, given what addition, exclusive or and rotation to the left are for them.
///
/// A macro and not a generic function, for a function that is to be compiled for one kind of
/// processor has to contain the vector operations itself.
macro_rules! twenty_rounds {
    ($x:expr, $add:ident, $xor:ident, $rotate:ident) => {{
        macro_rules! quarter {
            ($a:literal, $b:literal, $c:literal, $d:literal) => {
                $x[$b] = $xor($x[$b], $rotate::<7>($add($x[$a], $x[$d])));
                $x[$c] = $xor($x[$c], $rotate::<9>($add($x[$b], $x[$a])));
                $x[$d] = $xor($x[$d], $rotate::<13>($add($x[$c], $x[$b])));
                $x[$a] = $xor($x[$a], $rotate::<18>($add($x[$d], $x[$c])));
            };
        }
        for _ in 0..10 {
            // The columns,
            quarter!(0, 4, 8, 12);
            quarter!(5, 9, 13, 1);
            quarter!(10, 14, 2, 6);
            quarter!(15, 3, 7, 11);
            // then the rows.
            quarter!(0, 1, 2, 3);
            quarter!(5, 6, 7, 4);
            quarter!(10, 11, 8, 9);
            quarter!(15, 12, 13, 14);
        }
    }};
}

pub(super) use twenty_rounds;
