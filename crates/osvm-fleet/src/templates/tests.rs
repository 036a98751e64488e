//! What is found again on disk, what is not taken, and who waits for whom. The driver is a fake.

use osvm_vmm::fake::Fake;

use super::*;

fn fake() -> Fake {
    Fake::new(|_| async {})
}

async fn made(templates: &Templates, key: &str) -> PathBuf {
    let mut place = templates.place(Key::new(key)).await;
    assert!(place.open(&fake()).await.is_none(), "nobody has made it");
    let draft = templates.draft().unwrap();
    fs::write(draft.path().join("memory"), "what it knows").unwrap();
    place.keep(draft, &fake()).await.unwrap();
    place.path.clone()
}

async fn is_there(home: &Path, key: &str) -> bool {
    // As another daemon would look for it.
    Templates::in_home(home).place(Key::new(key)).await.open(&fake()).await.is_some()
}

#[tokio::test]
async fn what_was_made_is_found_again_under_its_key_alone() {
    let home = tempfile::tempdir().unwrap();
    let templates = Templates::in_home(home.path());
    made(&templates, "a").await;
    assert!(templates.place(Key::new("a")).await.open(&fake()).await.is_some());
    assert!(is_there(home.path(), "a").await);
    assert!(!is_there(home.path(), "b").await);
    let left = fs::read_dir(home.path().join("templates")).unwrap().count();
    assert_eq!(left, 1, "no draft is left");
}

#[tokio::test]
async fn what_is_not_as_it_was_written_is_removed() {
    let home = tempfile::tempdir().unwrap();
    let damages: [(&str, &str); 4] =
        [("memory", "what it knowz"), ("memory", "what"), ("one more", ""), ("template.json", "{")];
    for (file, text) in damages {
        let path = made(&Templates::in_home(home.path()), "a").await;
        fs::write(path.join(file), text).unwrap();
        assert!(!is_there(home.path(), "a").await, "{file}: {text}");
        assert!(!path.exists(), "{file}: {text}");
    }
    let path = made(&Templates::in_home(home.path()), "a").await;
    fs::remove_file(path.join("memory")).unwrap();
    assert!(!is_there(home.path(), "a").await);
}

#[tokio::test]
async fn what_is_in_the_folder_of_another_key_is_not_taken() {
    let home = tempfile::tempdir().unwrap();
    let path = made(&Templates::in_home(home.path()), "a").await;
    let other = home.path().join("templates").join(Key::new("b").name());
    fs::rename(path, &other).unwrap();
    assert!(!is_there(home.path(), "b").await);
    assert!(!other.exists());
}

#[tokio::test]
async fn those_are_forgotten_that_were_used_longest_ago() {
    let home = tempfile::tempdir().unwrap();
    let templates = Templates::in_home(home.path());
    for number in 0..MOST_KEPT {
        let path = made(&templates, &number.to_string()).await;
        let long_ago = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(number as u64);
        fs::File::options()
            .write(true)
            .open(path.join("template.json"))
            .unwrap()
            .set_modified(long_ago)
            .unwrap();
    }
    assert!(is_there(home.path(), "0").await, "looking for it is using it");
    made(&templates, "new").await;
    assert!(is_there(home.path(), "0").await && !is_there(home.path(), "1").await);
    let open = templates.open.lock().unwrap();
    assert!(open.len() <= MOST_OPEN && open.contains_key(&Key::new("new").name()));
}

#[tokio::test]
async fn those_are_closed_that_nobody_has_looked_for_and_nothing_is_cloned_from() {
    let home = tempfile::tempdir().unwrap();
    let templates = Templates::in_home(home.path());
    let keys = ["a", "b", "c", "d"].map(Key::new);
    for key in ["a", "b", "c", "d"] {
        made(&templates, key).await;
    }
    assert!(templates.close_unused(Duration::from_secs(60), &[]).is_empty());
    let looked_for = templates.place(keys[1].clone()).await;
    let cloned_from = templates.place(keys[2].clone()).await.open(&fake()).await.unwrap();
    let close = || templates.close_unused(Duration::ZERO, &[keys[3].name()]);
    assert_eq!((close(), close()), (vec![keys[0].name()], vec![]));
    drop((looked_for, cloned_from));
    assert_eq!([0, 1, 3].map(|key| templates.is_open(&keys[key])), [false, true, true]);
    assert_eq!(close().len(), 2);
    assert!(templates.place(keys[0].clone()).await.open(&fake()).await.is_some(), "it is on disk");
}

#[tokio::test]
async fn one_makes_it_while_others_wait() {
    let home = tempfile::tempdir().unwrap();
    let templates = Arc::new(Templates::in_home(home.path()));
    let begun = templates.place(Key::new("a")).await;
    let waits = tokio::spawn({
        let templates = Arc::clone(&templates);
        async move { templates.place(Key::new("a")).await.open(&fake()).await.is_some() }
    });
    tokio::task::yield_now().await;
    assert!(!waits.is_finished());
    let mut begun = begun;
    let draft = templates.draft().unwrap();
    begun.keep(draft, &fake()).await.unwrap();
    drop(begun);
    assert!(waits.await.unwrap());
}

async fn lent(templates: &Templates, folder: &Path) -> Result<Arc<dyn Template>, Cause> {
    templates.lent(Key::new("a"), folder.to_owned(), &fake()).await
}

#[tokio::test]
async fn what_is_lent_is_shared_while_it_is_the_template_and_had_when_that_is_gone() {
    let home = tempfile::tempdir().unwrap();
    let templates = Templates::in_home(home.path());
    let folder = home.path().join("lent");
    let lend = async || templates.lend(Key::new("a"), folder.clone()).await;
    assert!(!lend().await, "there is none");
    let path = made(&templates, "a").await;
    let template = templates.place(Key::new("a")).await.open(&fake()).await.unwrap();
    assert!(lend().await);
    assert!(Arc::ptr_eq(&template, &lent(&templates, &folder).await.unwrap()));
    // Nobody waits for one that is in somebody's hands.
    let place = templates.place(Key::new("a")).await;
    assert!(!templates.lend(Key::new("a"), home.path().join("other")).await);
    assert!(!Arc::ptr_eq(&template, &lent(&templates, &folder).await.unwrap()));
    drop(place);
    // Another of the same key, which is open, is not taken for it.
    remove(&path).unwrap();
    templates.close(&Key::new("a"));
    made(&templates, "a").await;
    let other = templates.place(Key::new("a")).await.open(&fake()).await.unwrap();
    assert!(!Arc::ptr_eq(&other, &lent(&templates, &folder).await.unwrap()));
    assert!(templates.lend(Key::new("a"), home.path().join("one more")).await);
    fs::remove_file(path.join("memory")).unwrap();
    assert!(!templates.lend(Key::new("a"), home.path().join("a part")).await, "it is not whole");
    remove(&home.path().join("templates")).unwrap();
    lent(&templates, &folder).await.unwrap();
    fs::write(folder.join("memory"), "what it knowz").unwrap();
    let cause = lent(&templates, &folder).await.err().unwrap();
    assert!(cause.message.contains("its files are not as they were written"), "{cause}");
}

#[tokio::test]
async fn what_a_daemon_had_begun_to_make_goes_with_the_next() {
    let home = tempfile::tempdir().unwrap();
    let templates = Templates::in_home(home.path());
    templates.sweep();
    let path = made(&templates, "a").await;
    let draft = templates.draft().unwrap().keep();
    fs::write(draft.join("memory"), "what it kn").unwrap();
    templates.sweep();
    assert!(!draft.exists() && path.exists());
}
