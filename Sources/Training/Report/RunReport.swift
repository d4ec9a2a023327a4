/// Everything that `report.html` shows. Pictures come encoded; the page holds them all and needs no other file.
public struct RunReport: Sendable {
  /// An encoded picture.
  public struct Picture: Sendable {
    /// Such as `image/png`.
    public var mediaType: String
    /// The file's bytes.
    public var bytes: [UInt8]

    /// Wraps a PNG file.
    public static func png(_ bytes: [UInt8]) -> Picture { Picture(mediaType: "image/png", bytes: bytes) }
    /// Wraps a JPEG file.
    public static func jpeg(_ bytes: [UInt8]) -> Picture { Picture(mediaType: "image/jpeg", bytes: bytes) }
  }

  /// What the model makes of some photos: a row for each photo, a column for each of `captions`.
  public struct PictureTable: Sendable {
    /// What the columns show.
    public var captions: [String]
    /// The pictures, row by row.
    public var rows: [[Picture]]

    /// Creates a table; traps unless each row has a picture for each caption.
    public init(captions: [String], rows: [[Picture]]) {
      precondition(rows.allSatisfy { $0.count == captions.count }, "PictureTable: \(captions.count) captions")
      self.captions = captions
      self.rows = rows
    }
  }

  /// An image that the model got wrong.
  public struct Mistake: Sendable {
    /// What the model said.
    public var prediction: Prediction
    /// The image's name in its data set.
    public var name: String
    /// The image.
    public var picture: Picture

    /// Creates a mistake.
    public init(prediction: Prediction, name: String, picture: Picture) {
      self.prediction = prediction
      self.name = name
      self.picture = picture
    }
  }

  /// The device's time for launches of one kind in one training step.
  public struct KernelTime: Sendable, Equatable {
    /// What they do.
    public var kind: String
    /// How many there were.
    public var launches: Int
    /// Their time, summed.
    public var seconds: Double
    /// Floating-point operations per second, 0 where they are not counted.
    public var flopsPerSecond: Double

    /// Creates an entry.
    public init(kind: String, launches: Int, seconds: Double, flopsPerSecond: Double) {
      self.kind = kind
      self.launches = launches
      self.seconds = seconds
      self.flopsPerSecond = flopsPerSecond
    }
  }

  /// What was trained, in a word or two.
  public var title: String
  /// The data, sizes and so on, in a line.
  public var subtitle: String
  /// The device, in a line.
  public var device: String
  /// Choices of the run, name and value.
  public var configuration: [(name: String, value: String)] = []
  /// Epochs that the run shall have.
  public var plannedEpochs: Int
  /// The finished epochs.
  public var history: [EpochRecord] = []
  /// The steps, as far as they are known.
  public var steps: [StepRecord] = []
  /// Before and after pictures of the resizer; nil where there is none.
  public var pictures: PictureTable?
  /// In the order of the labels.
  public var classNames: [String]
  /// The validation images as the better of the last two validations saw them.
  public var predictions: [Prediction] = []
  /// Which statistics that validation used.
  public var predictionsNote = ""
  /// The most confident mistakes among them, most confident first.
  public var mistakes: [Mistake] = []
  /// Where the device's time goes in one training step, longest first; empty where none was timed.
  public var kernelTimes: [KernelTime] = []

  /// A report of a run that has no epochs yet.
  public init(title: String, subtitle: String, device: String, plannedEpochs: Int, classNames: [String]) {
    self.title = title
    self.subtitle = subtitle
    self.device = device
    self.plannedEpochs = plannedEpochs
    self.classNames = classNames
  }
}
