//! Secrets from the desktop's keyring, over the Secret Service that GNOME, KDE and KeePassXC offer.

use std::collections::HashMap;

use secret_service::{EncryptionType, Error, SecretService};
use tokio::runtime::Builder;

use crate::error::CliError;

/// How programs call an item's account: `username` where they follow the keyring libraries.
const ACCOUNT: [&str; 2] = ["username", "account"];

/// The item of that service and account. A locked keyring asks for its password on the desktop.
pub(super) fn read(service: &str, account: &str) -> Result<String, CliError> {
    // On a thread of its own: the caller may be inside a runtime.
    let found = std::thread::scope(|scope| {
        let look = scope.spawn(|| {
            let runtime = Builder::new_current_thread().enable_all().build();
            runtime
                .map_err(|error| CliError::failed(format!("can't start the runtime: {error}")))?
                .block_on(find(service, account))
                .map_err(|error| unreachable(&error))
        });
        look.join().expect("looking does not panic")
    })?;
    let missing = || {
        let store = format!("secret-tool store --label=osvm service {service} username {account}");
        CliError::failed(format!("the keyring has no item {service}/{account}")).hint(store)
    };
    let secret = found.ok_or_else(missing)?;
    let text = String::from_utf8(secret).ok().filter(|text| !text.contains('\0'));
    text.ok_or_else(|| {
        CliError::failed(format!("item {service}/{account} of the keyring is no text"))
    })
}

async fn find(service: &str, account: &str) -> Result<Option<Vec<u8>>, Error> {
    let keyring = SecretService::connect(EncryptionType::Dh).await?;
    for name in ACCOUNT {
        let attributes = HashMap::from([("service", service), (name, account)]);
        let items = keyring.search_items(attributes).await?;
        if let Some(item) = items.unlocked.first().or(items.locked.first()) {
            item.unlock().await?;
            return item.get_secret().await.map(Some);
        }
    }
    Ok(None)
}

fn unreachable(error: &Error) -> CliError {
    CliError::failed(format!("can't ask the keyring: {error}"))
        .hint("a desktop session has one; elsewhere use NAME=file:PATH or NAME=env:VARIABLE")
}
