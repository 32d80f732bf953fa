using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Reflection;
using System.Reflection.Emit;
using System.Reflection.Metadata;
using System.Reflection.Metadata.Ecma335;
using System.Reflection.PortableExecutable;

namespace CyberMesh.Architecture.Tests;

/// <summary>Purity net 3: reads an assembly for what the compiler and the analyzer let through.</summary>
internal static class PurityScanner
{
    private static readonly Dictionary<short, OpCode> OpCodesByValue = typeof(OpCodes).GetFields(BindingFlags.Public | BindingFlags.Static)
        .Select(f => (OpCode)f.GetValue(null)!).ToDictionary(o => o.Value);

    public static List<string> Violations(string assemblyPath, string typePrefix = "")
    {
        using var pe = new PEReader(File.OpenRead(assemblyPath));
        var metadata = pe.GetMetadataReader();
        var found = new List<string>();
        foreach (var handle in metadata.TypeDefinitions)
        {
            var type = metadata.GetTypeDefinition(handle);
            var name = metadata.GetString(type.Namespace) + "." + metadata.GetString(type.Name);
            if (OutermostName(metadata, type).StartsWith(typePrefix, StringComparison.Ordinal)) ScanType(pe, metadata, type, name, found);
        }

        return found;
    }

    private static string OutermostName(MetadataReader metadata, TypeDefinition type)
    {
        while (!type.GetDeclaringType().IsNil) type = metadata.GetTypeDefinition(type.GetDeclaringType());
        return metadata.GetString(type.Namespace) + "." + metadata.GetString(type.Name);
    }

    private static void ScanType(PEReader pe, MetadataReader metadata, TypeDefinition type, string name, List<string> found)
    {
        var decoder = new FloatFinder();
        foreach (var handle in type.GetFields())
        {
            var field = metadata.GetFieldDefinition(handle);
            if (field.DecodeSignature(decoder, null)) found.Add($"{name}.{metadata.GetString(field.Name)}: floating point field");
        }

        foreach (var handle in type.GetMethods())
        {
            var method = metadata.GetMethodDefinition(handle);
            var where = $"{name}.{metadata.GetString(method.Name)}";
            var signature = method.DecodeSignature(decoder, null);
            if (signature.ReturnType || signature.ParameterTypes.Any(p => p)) found.Add(where + ": floating point in the signature");
            if (method.GetCustomAttributes().Any(a => AttributeName(metadata, a) == "AsyncStateMachineAttribute")) found.Add(where + ": async");
            if (method.RelativeVirtualAddress == 0) continue;
            var body = pe.GetMethodBody(method.RelativeVirtualAddress);
            if (!body.LocalSignature.IsNil && metadata.GetStandaloneSignature(body.LocalSignature).DecodeLocalSignature(decoder, null).Any(l => l))
                found.Add(where + ": floating point local");
            ScanCode(metadata, body.GetILBytes()!, where, found);
        }
    }

    private static string AttributeName(MetadataReader metadata, CustomAttributeHandle handle)
    {
        var constructor = metadata.GetCustomAttribute(handle).Constructor;
        if (constructor.Kind != HandleKind.MemberReference) return "";
        var parent = metadata.GetMemberReference((MemberReferenceHandle)constructor).Parent;
        return parent.Kind == HandleKind.TypeReference ? metadata.GetString(metadata.GetTypeReference((TypeReferenceHandle)parent).Name) : "";
    }

    private static void ScanCode(MetadataReader metadata, byte[] code, string where, List<string> found)
    {
        for (var at = 0; at < code.Length;)
        {
            var value = code[at] == 0xfe ? unchecked((short)(0xfe00 | code[at + 1])) : code[at];
            var opcode = OpCodesByValue[value];
            var operand = at + opcode.Size;
            if (opcode.Name is "ldc.r8" or "ldc.r4" or "conv.r8" or "conv.r4" or "conv.r.un") found.Add(where + ": " + opcode.Name);
            if (opcode.OperandType == OperandType.InlineMethod) CheckCall(metadata, BitConverter.ToInt32(code, operand), where, found);
            at = operand + OperandSize(opcode.OperandType, code, operand);
        }
    }

    private static void CheckCall(MetadataReader metadata, int token, string where, List<string> found)
    {
        var handle = MetadataTokens.EntityHandle(token);
        if (handle.Kind == HandleKind.MethodSpecification) handle = metadata.GetMethodSpecification((MethodSpecificationHandle)handle).Method;
        if (handle.Kind != HandleKind.MemberReference) return;
        var member = metadata.GetMemberReference((MemberReferenceHandle)handle);
        if (member.Parent.Kind != HandleKind.TypeSpecification) return;
        var name = metadata.GetString(member.Name);
        var type = metadata.GetTypeSpecification((TypeSpecificationHandle)member.Parent).DecodeSignature(new TypeName(), null);
        if ((type is "Dictionary`2" or "HashSet`1") && (name is "GetEnumerator" or "get_Keys" or "get_Values"))
            found.Add($"{where}: {type}.{name} has no defined order");
    }

    private static int OperandSize(OperandType type, byte[] code, int at) => type switch
    {
        OperandType.InlineNone => 0,
        OperandType.ShortInlineBrTarget or OperandType.ShortInlineI or OperandType.ShortInlineVar => 1,
        OperandType.InlineVar => 2,
        OperandType.InlineI8 or OperandType.InlineR => 8,
        OperandType.InlineSwitch => 4 + 4 * BitConverter.ToInt32(code, at),
        _ => 4,
    };

    /// <summary>True for a signature that contains Single or Double anywhere.</summary>
    private sealed class FloatFinder : ISignatureTypeProvider<bool, object?>
    {
        public bool GetPrimitiveType(PrimitiveTypeCode typeCode) => typeCode is PrimitiveTypeCode.Single or PrimitiveTypeCode.Double;
        public bool GetGenericInstantiation(bool genericType, System.Collections.Immutable.ImmutableArray<bool> typeArguments) => genericType || typeArguments.Any(t => t);
        public bool GetArrayType(bool elementType, ArrayShape shape) => elementType;
        public bool GetByReferenceType(bool elementType) => elementType;
        public bool GetPointerType(bool elementType) => elementType;
        public bool GetSZArrayType(bool elementType) => elementType;
        public bool GetPinnedType(bool elementType) => elementType;
        public bool GetModifiedType(bool modifier, bool unmodifiedType, bool isRequired) => unmodifiedType;
        public bool GetFunctionPointerType(MethodSignature<bool> signature) => signature.ReturnType || signature.ParameterTypes.Any(p => p);
        public bool GetGenericMethodParameter(object? genericContext, int index) => false;
        public bool GetGenericTypeParameter(object? genericContext, int index) => false;
        public bool GetTypeFromDefinition(MetadataReader reader, TypeDefinitionHandle handle, byte rawTypeKind) => false;
        public bool GetTypeFromReference(MetadataReader reader, TypeReferenceHandle handle, byte rawTypeKind) => false;
        public bool GetTypeFromSpecification(MetadataReader reader, object? genericContext, TypeSpecificationHandle handle, byte rawTypeKind) => false;
    }

    /// <summary>The simple name of a generic type.</summary>
    private sealed class TypeName : ISignatureTypeProvider<string, object?>
    {
        public string GetGenericInstantiation(string genericType, System.Collections.Immutable.ImmutableArray<string> typeArguments) => genericType;
        public string GetTypeFromReference(MetadataReader reader, TypeReferenceHandle handle, byte rawTypeKind) => reader.GetString(reader.GetTypeReference(handle).Name);
        public string GetTypeFromDefinition(MetadataReader reader, TypeDefinitionHandle handle, byte rawTypeKind) => reader.GetString(reader.GetTypeDefinition(handle).Name);
        public string GetTypeFromSpecification(MetadataReader reader, object? genericContext, TypeSpecificationHandle handle, byte rawTypeKind) => "";
        public string GetPrimitiveType(PrimitiveTypeCode typeCode) => "";
        public string GetArrayType(string elementType, ArrayShape shape) => "";
        public string GetByReferenceType(string elementType) => "";
        public string GetPointerType(string elementType) => "";
        public string GetSZArrayType(string elementType) => "";
        public string GetPinnedType(string elementType) => "";
        public string GetModifiedType(string modifier, string unmodifiedType, bool isRequired) => unmodifiedType;
        public string GetFunctionPointerType(MethodSignature<string> signature) => "";
        public string GetGenericMethodParameter(object? genericContext, int index) => "";
        public string GetGenericTypeParameter(object? genericContext, int index) => "";
    }
}
