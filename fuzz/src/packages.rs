//! What users and READMEs name a server by: a command, or a reference. Read, and written so that it is read again.

use osvm_spec::packages::{Recognised, recognise};
use osvm_spec::{ImageRef, command};

pub fn packages(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(image) = text.parse::<ImageRef>() {
        assert_eq!(image.to_string().parse(), Ok(image));
    }
    let Ok(argv) = command::split(text) else { return };
    if let Ok(Recognised::Package(request)) = recognise(&argv, None) {
        let install = request.install;
        assert_eq!(install.to_string().parse(), Ok(install));
    }
}
