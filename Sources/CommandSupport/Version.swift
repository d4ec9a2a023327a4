/// What `--version` prints of the commands; the newest of CHANGELOG.md.
public let foveaVersion = "0.1.0"
