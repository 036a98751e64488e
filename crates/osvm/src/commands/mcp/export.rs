//! `osvm mcp export`

use osvm_spec::clients::ClientFile;

use crate::backups::{self, Backup};
use crate::client_file::{FoundFile, Source};
use crate::error::CliError;
use crate::output;

/// Give a client's servers back to it
///
/// A file that is as osvm wrote it becomes what it was, byte for byte. In one that was changed since, only those
/// entries are put back that still start osvm. The servers stay registered.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  osvm mcp export --restore --dry-run
  osvm mcp export --restore claude-desktop")]
pub(crate) struct Args {
    /// Undo what import --rewrite and connect wrote
    #[arg(long, required = true)]
    restore: bool,
    /// claude-desktop, claude-code, cursor, vscode, windsurf, zed, gemini, or the path of a file [default: all that
    /// osvm wrote]
    source: Option<Source>,
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
}

pub(crate) fn run(args: &Args) -> Result<(), CliError> {
    let path = args.source.as_ref().map(Source::path).transpose()?;
    let mut backups = backups::all(path.as_deref())?;
    if backups.is_empty() {
        return output::line("osvm wrote nothing that could be put back");
    }
    while let Some(newest) = backups.first() {
        let file = newest.file().to_owned();
        let (of_file, others): (Vec<_>, _) =
            backups.into_iter().partition(|backup| backup.file() == file);
        backups = others;
        restore(&Source::File(file).find()?, &of_file, args.dry_run)?;
    }
    Ok(())
}

/// One file, back through all that was written to it.
fn restore(found: &FoundFile, backups: &[Backup], dry_run: bool) -> Result<(), CliError> {
    let name = found.path.display();
    let mut text = found.text.clone();
    let mut left = Vec::new();
    for backup in backups {
        let original = backup.original()?;
        if text.as_deref().is_some_and(|text| backup.wrote(text)) {
            text = original;
            continue;
        }
        let before = original.unwrap_or_default();
        let before = ClientFile::parse(&before).map_err(|error| found.fault(&error))?;
        let (now, kept) = put_back(found, backup, text, &before)?;
        text = now;
        if !kept.is_empty() {
            left.push((backup, kept));
        }
    }
    match dry_run {
        true => found.show_change(text.as_deref())?,
        false if text == found.text => {}
        false => found.replace(text.as_deref())?,
    }
    for (backup, entries) in &left {
        let (entries, original) = (entries.join(", "), backup.original_path());
        let original = original.display();
        output::warning(format_args!(
            "{name}: {entries} was changed since and is left as it is; what it was is in {original}"
        ));
    }
    if dry_run {
        return Ok(());
    }
    for backup in backups {
        match left.iter().any(|(other, _)| std::ptr::eq(*other, backup)) {
            true => backup.close(),
            false => backup.forget(),
        }
    }
    output::line(format_args!("restored {name}"))
}

/// The entries that are still osvm's; also the names of those that are not.
fn put_back(
    found: &FoundFile,
    backup: &Backup,
    text: Option<String>,
    before: &ClientFile<'_>,
) -> Result<(Option<String>, Vec<String>), CliError> {
    let Some(mut text) = text else {
        let all = backup.entries().iter().map(|entry| entry.spot.name.clone());
        return Ok((None, all.collect()));
    };
    let mut left = Vec::new();
    for entry in backup.entries().iter().rev() {
        let file = found.parse(&text)?;
        let back = file.put_back(&entry.spot, &entry.wrote, before);
        match back.map_err(|error| found.fault(&error))? {
            Some(back) => text = back,
            None => left.push(entry.spot.name.clone()),
        }
    }
    Ok((Some(text), left))
}
