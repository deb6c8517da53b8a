//! Objects as users write them: any text is read or refused, what is refused names a field, and what strict semantics
//! take has nothing that Istio would drop.
#![no_main]

#[path = "../../mesh-policy/tests/corpus/objects.rs"]
mod objects;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| objects::check(text));
