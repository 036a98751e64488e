//! Container command lines as READMEs have them.

use super::*;
use crate::command;

fn run(line: &str) -> Result<Run, ContainerError> {
    Ok(recognise(&command::split(line).unwrap())?.unwrap())
}

fn entry(line: &str) -> Entry {
    let command = command::split(line).unwrap();
    Entry { command, ..Entry::new("s".parse().unwrap()) }
}

fn texts<T: ToString>(list: &[T]) -> Vec<String> {
    list.iter().map(ToString::to_string).collect()
}

#[test]
fn what_readmes_say_is_image_arguments_environment_and_folders() {
    let run =
        run("docker run -i --rm -e TOKEN -e A=b=c -v /x:/y:ro --mount type=bind,src=/a,dst=/b \
         ghcr.io/github/github-mcp-server stdio --read-only")
        .unwrap();
    assert_eq!(run.image.to_string(), "ghcr.io/github/github-mcp-server:latest");
    assert_eq!(run.args, ["stdio", "--read-only"]);
    assert_eq!((run.passed, run.env["A"].as_str()), (vec!["TOKEN".to_owned()], "b=c"));
    assert_eq!(texts(&run.folders), ["/x:/y:ro", "/a:/b:rw"]);
    assert!(run.unheeded.is_empty());
}

#[test]
fn flags_are_taken_apart_as_docker_does() {
    let run = run(
        "/usr/local/bin/podman container run -itePLAIN=1 --env=B=2 -e=C=3 --rm=true -w /work -u 1000 \
         -m 512m --cpus=1.5 --network none --platform linux/amd64 --privileged=false -- mcp/time",
    )
    .unwrap();
    let env: Vec<_> = run.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(env, ["B=2", "C=3", "PLAIN=1"]);
    assert_eq!((run.user.as_deref(), run.working_dir.as_deref()), (Some("1000"), Some("/work")));
    assert_eq!(run.size, Size { memory_mb: Some(512), vcpus: Some(2) });
    assert_eq!(run.unheeded, ["-t"]);
}

#[test]
fn what_a_vm_can_not_honour_is_refused_by_name() {
    for (flags, name) in [
        ("--network host", "--network"),
        ("--net=my-net", "--net"),
        ("--privileged", "--privileged"),
        ("--cap-add SYS_ADMIN", "--cap-add"),
        ("-p 8080:80", "-p"),
        ("--device /dev/kvm", "--device"),
        ("--env-file .env", "--env-file"),
        ("-d", "-d"),
        ("-v data:/data", "-v"),
        ("-v /var/run/docker.sock:/var/run/docker.sock", "-v"),
        ("--mount type=volume,src=data,dst=/data", "--mount"),
        ("--mount type=bind,src=/a,dst=/b,what=x", "--mount"),
        ("-m lots", "-m"),
        ("-w here", "-w"),
        ("--made-up", "--made-up"),
        ("--platform linux/arm64", "--platform"),
    ] {
        let error = run(&format!("docker run {flags} mcp/time")).unwrap_err().to_string();
        assert!(
            error.contains(&format!("flag {name} ")) || error.contains(&format!("flag {name},")),
            "{error}"
        );
    }
}

#[test]
fn what_a_vm_does_anyway_is_told_and_not_lost() {
    let run = run(
        "docker run --read-only --cap-drop ALL --security-opt=no-new-privileges -v /cache --tmpfs /tmp mcp/time",
    );
    assert_eq!(
        run.unwrap().unheeded,
        ["--read-only", "--cap-drop", "--security-opt", "-v", "--tmpfs"]
    );
}

#[test]
fn other_commands_are_nobodys_or_told_apart() {
    assert_eq!(recognise(&["npx".to_owned(), "docker".to_owned()]), Ok(None));
    assert_eq!(recognise(&[]), Ok(None));
    for line in
        ["docker exec -i box server", "docker mcp gateway run", "docker", "podman compose run x"]
    {
        let error = run(line).unwrap_err();
        assert!(matches!(error, ContainerError::Subcommand { .. }), "{error}");
    }
    assert!(matches!(run("docker run -i --rm"), Err(ContainerError::NoImage { .. })));
    assert!(matches!(run("docker run -e"), Err(ContainerError::NoValue { .. })));
    assert!(matches!(run("docker run ./here"), Err(ContainerError::Image(_))));
}

#[test]
fn an_entry_says_the_same_in_its_own_keys() {
    let own = Entry {
        env: BTreeMap::from([("A".to_owned(), "mine".to_owned())]),
        ..entry("docker run -i -e A=theirs -e TOKEN -v /x:/y -m 1g --entrypoint /bin/s mcp/a -v")
    };
    let (lowered, _) = lower(own).unwrap();
    assert_eq!(lowered.image.as_ref().unwrap().to_string(), "docker.io/mcp/a:latest");
    assert_eq!(
        (lowered.command.as_slice(), lowered.env["A"].as_str()),
        (&texts(&["/bin/s", "-v"])[..], "mine")
    );
    assert_eq!(
        (texts(&lowered.secrets), texts(&lowered.folders)),
        (texts(&["TOKEN"]), texts(&["/x:/y:rw"]))
    );
    assert_eq!(lowered.microvm_config.memory_mb, Some(1024));
    assert_eq!(lower(lowered.clone()).unwrap().0, lowered);
}

#[test]
fn arguments_stay_behind_the_image() {
    let (lowered, _) = lower(entry("docker run --rm mcp/a:1 --verbose /data")).unwrap();
    assert_eq!(command::join(&lowered.command), "docker run docker.io/mcp/a:1 --verbose /data");
    assert_eq!(lower(lowered.clone()).unwrap().0, lowered);
    let (bare, _) = lower(entry("docker run --rm mcp/a:1")).unwrap();
    assert!(bare.command.is_empty() && bare.image.is_some());
}

#[test]
fn a_variable_that_has_its_value_is_no_secret() {
    let known = Entry {
        env: BTreeMap::from([("MODE".to_owned(), "x".to_owned())]),
        ..entry("docker run -e MODE -e TOKEN mcp/a")
    };
    let (lowered, _) = lower(known).unwrap();
    assert_eq!((texts(&lowered.secrets), lowered.env.len()), (texts(&["TOKEN"]), 1));
}
