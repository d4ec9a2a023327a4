import Testing

@testable import Vision

@Suite struct FolderDatasetTests {
  private func folder(_ files: [String]) throws -> TemporaryFolder {
    let folder = try TemporaryFolder()
    let image = RGBImage(width: 4, height: 2, color: (10, 20, 30))
    let png = try ImageCodec.encodePNG(image)
    for file in files { try folder.write(png, file) }
    return folder
  }

  @Test func classesAndFilesAreSorted() throws {
    let folder = try folder([
      "dog/b.png", "cat/z.jpg", "cat/a", "dog/Thumbs.db", "cat/.hidden.png", "bird/deeper/c.png", "loose.png",
    ])
    let dataset = try FolderDataset(folder.path)
    #expect(dataset.classNames == ["bird", "cat", "dog"])
    #expect((0..<dataset.count).map(dataset.name) == ["bird/deeper/c.png", "cat/a", "cat/z.jpg", "dog/b.png"])
    #expect((0..<dataset.count).map(dataset.label) == [0, 1, 1, 2])
    #expect(try dataset.pixels(at: 2, height: 1, width: 3) == [10, 20, 30, 10, 20, 30, 10, 20, 30])
  }

  @Test func unusableFoldersGiveClearErrors() throws {
    #expect(throws: DatasetError.missingFolder(path: "/nonexistent")) { try FolderDataset("/nonexistent") }
    let loose = try folder(["photo.png"])
    let photo = loose.path + "/photo.png"
    #expect(throws: DatasetError.notAFolder(path: photo)) { try FolderDataset(photo) }
    let empty = try folder([])
    #expect(throws: DatasetError.noClasses(path: empty.path)) { try FolderDataset(empty.path) }
    let single = try folder(["cat/a.png"])
    #expect(throws: DatasetError.oneClass(path: single.path, name: "cat")) { try FolderDataset(single.path) }
    let hollow = try folder(["cat/a.png", "dog/.keep"])
    #expect(throws: DatasetError.emptyClass(path: hollow.path + "/dog")) { try FolderDataset(hollow.path) }
  }

  @Test func trainAndValidationFoldersAreUsedWhenBothExist() throws {
    let both = try folder(["train/a/1", "train/b/1", "train/b/2", "validation/a/1", "validation/b/1"])
    let split = try DatasetSplit.open(directory: both.path, seed: 1)
    #expect(split.training.count == 3 && split.validation.count == 2)

    let different = try folder(["train/a/1", "train/b/1", "validation/a/1", "validation/c/1"])
    #expect(throws: DatasetError.differentClasses(training: ["a", "b"], validation: ["a", "c"])) {
      try DatasetSplit.open(directory: different.path, seed: 1)
    }
  }

  @Test func splitIsSeededAndDisjoint() throws {
    let folder = try folder((0..<30).map { "\($0 % 2 == 0 ? "a" : "b")/\($0)" })
    let split = try DatasetSplit.open(directory: folder.path, validationSplit: 0.2, seed: 4)
    let names = { (set: any ImageDataset) in (0..<set.count).map(set.name) }
    let (training, validation) = (names(split.training), names(split.validation))
    #expect(training.count == 24 && validation.count == 6)
    #expect(Set(training).union(validation).count == 30)
    let again = { try names(DatasetSplit.open(directory: folder.path, validationSplit: 0.2, seed: $0).validation) }
    #expect(try again(4) == validation)
    #expect(try again(5) != validation)
    for fraction in [0, 1, -3, .nan, .infinity] {
      #expect(throws: DatasetError.self) {
        try DatasetSplit.open(directory: folder.path, validationSplit: fraction, seed: 4)
      }
    }
  }

  @Test func limitKeepsClassesMixed() throws {
    let folder = try folder((0..<200).map { "\($0 < 100 ? "a" : "b")/\($0)" })
    let limited = try FolderDataset(folder.path).limited(to: 40, seed: 3)
    #expect(limited.count == 40)
    #expect((10...30).contains((0..<40).map(limited.label).reduce(0, +)))
    #expect(limited.limited(to: 500, seed: 3).count == 40)
  }
}
