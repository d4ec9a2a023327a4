import Testing

@testable import OpenCLRuntime

@Suite struct DeviceSelectionTests {
  private static let candidates = [
    DeviceSelection.Candidate(
      platformIndex: 0, deviceIndex: 0, kind: .cpu,
      names: ["pthread-haswell", "GenuineIntel", "Portable Computing Language"]),
    DeviceSelection.Candidate(
      platformIndex: 1, deviceIndex: 0, kind: .gpu, names: ["Graphics One", "Acme", "Acme OpenCL"]),
    DeviceSelection.Candidate(
      platformIndex: 1, deviceIndex: 1, kind: .gpu, names: ["Graphics Two", "Acme", "Acme OpenCL"]),
    DeviceSelection.Candidate(
      platformIndex: 2, deviceIndex: 0, kind: .accelerator, names: ["Board: 7", "Other", "Other OpenCL"]),
  ]

  @Test(arguments: [
    ("auto", 1), ("AUTO", 1), ("gpu", 1), ("gpu:0", 1), ("gpu:1", 2), ("cpu", 0), (" cpu ", 0), ("accelerator", 3),
    ("0:0", 0), ("1:0", 1), ("1:1", 2), ("2:0", 3), ("two", 2), ("acme", 1), ("portable", 0), ("board: 7", 3),
  ])
  func picks(text: String, index: Int) {
    #expect(DeviceSelection.index(of: text, in: Self.candidates) == index)
  }

  @Test(arguments: ["gpu:2", "cpu:1", "cpu:-1", "gpu:x", "gpu:", "3:0", "1:2", "", " ", "nothing", "gpu:0:0"])
  func picksNothing(text: String) {
    #expect(DeviceSelection.index(of: text, in: Self.candidates) == nil)
  }

  @Test func autoTakesTheFirstDeviceWithoutGPU() {
    #expect(DeviceSelection.index(of: "auto", in: [Self.candidates[3], Self.candidates[0]]) == 0)
  }

  @Test func gpuIsNeverACPU() {
    #expect(DeviceSelection.index(of: "gpu", in: [Self.candidates[0]]) == nil)
  }

  @Test func noPlatformIsAnErrorOfItsOwn() {
    do {
      _ = try DeviceSelection.pick("auto", from: [])
      Issue.record("picked a device out of none")
    } catch OpenCLError.noPlatform {
      #expect("\(OpenCLError.noPlatform)".contains("apt-get install pocl-opencl-icd"))
    } catch {
      Issue.record("\(error)")
    }
  }

  @Test func anUnknownDeviceErrorListsWhatThereIs() throws {
    let devices = try DeviceDescription.all()
    do {
      _ = try DeviceSelection.pick("no such device", from: devices)
      Issue.record("picked a device by a name that no device has")
    } catch let error as OpenCLError {
      let text = "\(error)"
      #expect(text.contains("no such device"))
      #expect(devices.allSatisfy { text.contains($0.summary) })
      #expect(text.contains("--device") && text.contains("FOVEA_DEVICE"))
    }
  }

  @Test func selectorPicksTheDeviceItself() throws {
    let devices = try DeviceDescription.all()
    for device in devices {
      let picked = try DeviceSelection.pick(device.selector, from: devices)
      #expect(picked.platformIndex == device.platformIndex && picked.deviceIndex == device.deviceIndex)
    }
  }
}
