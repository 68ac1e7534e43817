//! The vectors of the local space, and of addresses and ranges.

use super::vectors::{address, list, load, number, pair, text};
use crate::{AddressSet, Cidr, Range, Space, Subnet};

fn check(space: &Space, expected: &serde_json::Value, name: &str) {
    for (set, key, count) in
        [(space.free(), "free", "num_free"), (space.used(), "used", "num_used")]
    {
        if expected.get(key).is_some() {
            let ranges: Vec<Range> = list(&expected[key]).iter().map(pair).collect();
            assert_eq!(set.iter().collect::<Vec<_>>(), ranges, "{name}: {expected}");
        }
        assert_eq!(set.len(), number(&expected[count]), "{name}: {expected}");
    }
}

#[test]
fn sequences() {
    let file = load("ipam-space.json");
    for row in list(&file["sequences"]) {
        let name = text(&row["name"]);
        let mut owned: Vec<Range> = list(&row["initial_ranges"]).iter().map(pair).collect();
        let mut space = Space::default();
        space.set_ranges(&owned);
        check(&space, &row["initial"], name);
        for step in list(&row["steps"]) {
            let ok = step["ok"].as_bool();
            let range = || pair(&step["range"]);
            match text(&step["op"]) {
                "allocate" => {
                    let got = space.allocate(range(), &AddressSet::default());
                    assert_eq!(got.is_some(), ok.unwrap(), "{name}: {step}");
                    assert!(
                        got.is_none_or(|got| got == address(&step["address"])),
                        "{name}: {step}"
                    );
                }
                "claim" => {
                    let done = space.claim(address(&step["address"]));
                    assert_eq!(done.is_ok(), ok.unwrap(), "{name}: {step}");
                }
                "free" => {
                    let done = space.release(address(&step["address"]));
                    assert_eq!(done.is_ok(), ok.unwrap(), "{name}: {step}");
                }
                "donate" => {
                    assert_eq!(space.free_within(range()), number(&step["free_in_range_before"]));
                    let block = space.donate(range(), &AddressSet::default());
                    assert_eq!(block.is_some(), ok.unwrap(), "{name}: {step}");
                    if let Some(block) = block {
                        assert_eq!(block, pair(&step["donated"]), "{name}: {step}");
                        let mut rest = AddressSet::default();
                        owned.iter().for_each(|range| rest.insert(*range));
                        rest.remove(block);
                        owned = rest.iter().collect();
                    }
                }
                "num-free-in-range" => {
                    assert_eq!(
                        space.free_within(range()),
                        number(&step["count"]),
                        "{name}: {step}"
                    );
                }
                "update-ranges" | "add-ranges" => {
                    owned.push(range());
                    space.set_ranges(&owned);
                }
                other => panic!("{other}"),
            }
            check(&space, step, name);
        }
    }
}

#[test]
fn ranges() {
    let file = load("ipam-space.json");
    for row in list(&file["ranges"]) {
        let range = pair(&row["range"]);
        assert_eq!(range.to_string(), text(&row["range_string"]));
        assert_eq!(range.largest_block(), pair(&row["biggest_cidr"]), "{range}");
        let blocks: Vec<String> = range.blocks().map(|block| block.to_string()).collect();
        let expected: Vec<&str> = list(&row["cidrs"]).iter().map(text).collect();
        assert_eq!(blocks, expected);
    }
}

#[test]
fn cidrs() {
    let file = load("ipam-space.json");
    for row in list(&file["cidrs"]) {
        let written = text(&row["cidr"]);
        let parsed = written.parse::<Cidr>();
        if written.starts_with("::ffff") {
            // The original takes it, and makes nonsense of the prefix.
            assert!(parsed.is_err());
            continue;
        }
        assert_eq!(parsed.is_ok(), row["parses"].as_bool().unwrap(), "{row}");
        let Ok(cidr) = parsed else { continue };
        assert_eq!(cidr.to_string(), written);
        if u64::from(Range::of(cidr).size()) == row["size"].as_u64().unwrap() {
            assert_eq!(Range::of(cidr), pair(&row["range"]), "{row}");
            assert_eq!(Range::of_hosts(cidr), pair(&row["host_range"]), "{row}");
        }
        let usable = Subnet::try_from(cidr).is_ok();
        assert_eq!(usable, row["usable_as_subnet"].as_bool().unwrap(), "{row}");
    }
}

#[test]
fn texts_that_are_no_subnet_say_why() {
    for (written, why) in [
        ("10.0.0.1/24", "not all zero"),
        ("10.0.0.1/31", "too small"),
        ("::ffff:10.0.0.0/120", "is not an address"),
        ("fd00::/64", "Non-IPv4"),
        ("0.0.0.0/0", "end of the address space"),
        ("255.0.0.0/8", "end of the address space"),
        ("10.0.0.0", "is not an address"),
        ("10.0.0.0/+8", "is not an address"),
    ] {
        let error = written.parse::<Subnet>().unwrap_err().to_string();
        assert!(error.contains(why), "{written}: {error}");
    }
}
