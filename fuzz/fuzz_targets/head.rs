//! The scan for ambiguous framing sees the same in one piece and byte by byte.
#![no_main]
#![allow(dead_code)]

#[path = "../../crates/seawall-gateway/src/proxy/head.rs"]
mod head;

use head::HeadScan;
use libfuzzer_sys::fuzz_target;

const REQUESTS: u32 = 8;

fuzz_target!(|bytes: &[u8]| {
    let (mut whole, mut pieces) = (HeadScan::default(), HeadScan::default());
    whole.feed(bytes);
    bytes.chunks(1).for_each(|byte| pieces.feed(byte));
    for number in 0..REQUESTS {
        assert_eq!(whole.is_ambiguous(number), pieces.is_ambiguous(number));
    }
    // Whatever comes behind it.
    whole.feed(bytes);
});
