//! Every kept seed passes its target, without a fuzzer and on any compiler.

use std::fs;
use std::path::Path;

fn replay(target: &str, run: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(target);
    let mut count = 0;
    for entry in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{folder:?}: {error}")) {
        let path = entry.unwrap().path();
        println!("{}", path.display());
        run(&fs::read(&path).unwrap());
        count += 1;
    }
    assert!(count > 0, "no seeds in {folder:?}");
}

macro_rules! targets {
    ($($target:ident)*) => {
        $(#[test]
        fn $target() {
            replay(stringify!($target), osvm_fuzz::$target);
        })*
    };
}

targets! {
    wire session mcp config archive kernel disk layers vmm record
    dns proxy hosts post folders rules bundle packages lock clients
    bridge guard manifest gateway
}
