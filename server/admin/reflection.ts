/** `grpc.reflection.v1`: tells tools what is served, from the schema itself. */
import {
  createRegistry,
  type DescFile,
  type DescService,
  type MessageInitShape,
  type Registry,
  toBinary,
} from "@bufbuild/protobuf";
import { FileDescriptorProtoSchema } from "@bufbuild/protobuf/wkt";
import { Code, type ServiceImpl } from "@connectrpc/connect";
import type {
  ServerReflection,
  ServerReflectionRequest,
  ServerReflectionResponseSchema,
} from "../../gen/grpc/reflection/v1/reflection_pb.ts";
import type { Watchers } from "./watch.ts";

type Answer = NonNullable<
  MessageInitShape<typeof ServerReflectionResponseSchema>["messageResponse"]
>;

/** Everything that can be asked about. */
interface Known {
  readonly registry: Registry;
  /** Files by their whole names, as `syncrelay/admin/v1/health.proto`. */
  readonly byName: ReadonlyMap<string, DescFile>;
}

export function reflectionService(
  services: readonly DescService[],
  watchers: Watchers,
): ServiceImpl<typeof ServerReflection> {
  const files = new Set<DescFile>();
  for (const service of services) withImports(service.file, files);
  const known = { registry: createRegistry(...files), byName: byName(files) };
  return {
    serverReflectionInfo: (requests) =>
      watchers.run(async function* () {
        for await (const request of requests) {
          yield {
            validHost: request.host,
            originalRequest: request,
            messageResponse: answer(request, services, known),
          };
        }
      }),
  };
}

function answer(
  request: ServerReflectionRequest,
  services: readonly DescService[],
  { registry, byName }: Known,
): Answer {
  const { messageRequest } = request;
  switch (messageRequest.case) {
    case "listServices":
      return {
        case: "listServicesResponse",
        value: { service: services.map((service) => ({ name: service.typeName })) },
      };
    case "fileByFilename":
      return fileAnswer(byName.get(messageRequest.value));
    case "fileContainingSymbol":
      return fileAnswer(fileOf(registry, messageRequest.value));
    case "fileContainingExtension": {
      const { containingType, extensionNumber } = messageRequest.value;
      return fileAnswer(
        extensions(registry, containingType).find((each) => each.number === extensionNumber)?.file,
      );
    }
    case "allExtensionNumbersOfType":
      return {
        case: "allExtensionNumbersResponse",
        value: {
          baseTypeName: messageRequest.value,
          extensionNumber: extensions(registry, messageRequest.value).map((each) => each.number),
        },
      };
    case undefined:
      return {
        case: "errorResponse",
        value: { errorCode: Code.InvalidArgument, errorMessage: "nothing was asked" },
      };
  }
}

/** A file with everything it imports, so that one answer is enough. */
function fileAnswer(file: DescFile | undefined): Answer {
  if (file === undefined) {
    return {
      case: "errorResponse",
      value: { errorCode: Code.NotFound, errorMessage: "no such file or symbol" },
    };
  }
  const files = new Set<DescFile>();
  withImports(file, files);
  return {
    case: "fileDescriptorResponse",
    value: {
      fileDescriptorProto: [...files].map((each) =>
        toBinary(FileDescriptorProtoSchema, each.proto),
      ),
    },
  };
}

function byName(files: ReadonlySet<DescFile>): Map<string, DescFile> {
  return new Map([...files].map((file) => [file.proto.name, file]));
}

function withImports(file: DescFile, files: Set<DescFile>): void {
  if (files.has(file)) return;
  files.add(file);
  for (const imported of file.dependencies) withImports(imported, files);
}

/** The file that declares a symbol: a type, a service, or something inside one. */
function fileOf(registry: Registry, symbol: string): DescFile | undefined {
  for (let name = symbol; name !== ""; name = name.slice(0, Math.max(0, name.lastIndexOf(".")))) {
    const found = registry.get(name);
    if (found !== undefined) return found.file;
  }
  return undefined;
}

function extensions(registry: Registry, typeName: string) {
  return [...registry].flatMap((each) =>
    each.kind === "extension" && each.extendee.typeName === typeName ? [each] : [],
  );
}
