//! Structs of named fields.

/// Defines structs that can be decoded from and encoded to gob.
///
/// After the type of each field stands its name in gob, after the struct its name there. A field
/// that was not sent has its default value: structs must be [`Default`]. Fields are of any type
/// that is [`Decode`](crate::wire::gob::Decode) and [`Encode`](crate::wire::gob::Encode), or
/// `Option` of a map or such a struct. A lifetime parameter stands for the decoder's input.
#[macro_export]
macro_rules! gob_struct {
    (
        $(#[$meta:meta])*
        $visibility:vis struct $name:ident $(<$lifetime:lifetime>)? as $wire_name:literal {
            $(
                $(#[$field_meta:meta])*
                $field_visibility:vis $field:ident: $type:ty = $wire_field:literal
            ),+ $(,)?
        }
    ) => {
        $(#[$meta])*
        $visibility struct $name $(<$lifetime>)? {
            $($(#[$field_meta])* $field_visibility $field: $type,)+
        }

        const _: () = {
            use $crate::wire::gob;

            #[allow(non_camel_case_types, reason = "named like the fields")]
            enum Number { $($field),+ }

            impl $(<$lifetime>)? gob::Gob for $name $(<$lifetime>)? {
                const SHAPE: &'static gob::Shape = &gob::Shape::Struct {
                    name: $wire_name,
                    fields: &[$(gob::Field {
                        name: $wire_field,
                        shape: <$type as gob::DecodeField>::SHAPE,
                    }),+],
                };
            }

            impl $(<$lifetime>)? gob::Nillable for $name $(<$lifetime>)? {}

            $crate::gob_struct!(@decode $name $(<$lifetime>)? { $($field),+ });

            impl $(<$lifetime>)? gob::Encode for $name $(<$lifetime>)? {
                fn encode(&self, out: &mut ::std::vec::Vec<u8>) {
                    let mut fields = gob::FieldWriter::new(out);
                    $(gob::EncodeField::encode_field(
                        &self.$field,
                        Number::$field as usize,
                        &mut fields,
                    );)+
                    fields.end();
                }
            }
        };
    };
    (@decode $name:ident { $($field:ident),+ }) => {
        $crate::gob_struct!(@decode_impl 'de, $name { $($field),+ });
    };
    (@decode $name:ident <$lifetime:lifetime> { $($field:ident),+ }) => {
        $crate::gob_struct!(@decode_impl $lifetime, $name <$lifetime> { $($field),+ });
    };
    (@decode_impl $de:lifetime, $name:ident $(<$lifetime:lifetime>)? { $($field:ident),+ }) => {
        impl<$de> gob::Decode<$de> for $name $(<$lifetime>)? {
            fn decode(
                reader: &mut gob::ValueReader<'_, $de>,
                plan: &gob::Plan,
            ) -> ::std::result::Result<Self, gob::Error> {
                let mut value = <Self as ::std::default::Default>::default();
                let mut fields = reader.fields(plan);
                while let Some((number, plan)) = fields.next(reader)? {
                    $(if number == Number::$field as usize {
                        value.$field = gob::DecodeField::decode_field(reader, plan)?;
                        continue;
                    })+
                }
                Ok(value)
            }
        }
    };
}
